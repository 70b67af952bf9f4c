"""Training data built from what earlier runs sampled: their completions read back, a build called, its rows kept."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlpost import catalogue
from rlpost.errors import ConfigError, DataError
from rlpost.fields import reads
from rlpost.models.scorer.roles import Models
from rlpost.nodes import build
from rlpost.run import files
from rlpost.types import Prompt, Rollout, Task

ROWS = "built.jsonl"


def training_tasks(tree: Mapping[str, Any], folder: Path) -> Sequence[Task]:
    """The tasks of a run: those of its dataset, or what its `build` makes of the completions of `built_from`.

    Built rows are kept in the run folder, so that a run that is continued trains on the same ones.
    Raises DataError where a build makes none.
    """
    if not tree.get("build"):
        return build(tree["dataset"])("train")
    sources = [Path(place) for place in _listed(tree.get("built_from"))]
    if (folder / ROWS).is_file():
        known = {task.id: task for place in sources for task in asked(place)}
        return _told_apart([_read(row, known) for row in files.read_lines(folder / ROWS)])
    rollouts = []
    for number, place in enumerate(sources):  # groups of two runs may have the same name
        rollouts += [replace(one, group=f"{number}/{one.group}") for one in completions(place)]
    function, name = build(tree["build"]), str(tree["build"]["_target_"]).rpartition(".")[2]
    extra = {"models": Models(tree.get("models")), "rng": random.Random(int(tree.get("seed") or 0))}
    rows = list(function(rollouts, *(extra[field] for field in reads(function)[1:])))
    if not rows:
        raise DataError(
            f"build {name} made no row of {len(rollouts)} completions in {', '.join(map(str, sources))}; sample more "
            "of them (rollout.num_generations, trainer.limit), or loosen its knobs"
        )
    known = {r.task.id: r.task for r in rollouts}
    _keep(folder, [_written(row, known[row.id]) for row in rows])
    return _told_apart(rows)


def completions(run: Path) -> list[Rollout]:
    """The completions that a run wrote, in order, with their tasks.

    They have text and scores but no tokens; `info` holds `reward` (the weighted total), `length` in tokens and `step`.
    Raises ConfigError where `run` is no run that sampled.
    """
    lines = files.read_lines(run / "rollouts.jsonl")
    if not lines:
        raise ConfigError(f"built_from={run} holds no completions (rollouts.jsonl); give a run of sample, eval or grpo")
    tasks = {task.id: task for task in asked(run)}
    lost = [line["task"] for line in lines if line["task"] not in tasks]
    if lost:
        raise DataError(f"{run}: the dataset of that run no longer has the task {lost[0]}, to which it holds an answer")
    return [_rollout(line, tasks[line["task"]]) for line in lines]


def asked(run: Path) -> Sequence[Task]:
    """The tasks that a run drew from."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"built_from={run} is no run folder: it has no config.yaml")
    tree = catalogue.read_yaml(run / "config.yaml")
    return training_tasks(tree, run) if tree.get("build") else build(tree["dataset"])(_split(tree))


def _split(tree: Mapping[str, Any]) -> str:
    return (tree.get("trainer") or {}).get("split") or "train"


def _rollout(line: Mapping[str, Any], task: Task) -> Rollout:
    facts = {"reward": line["reward"], "length": line["tokens"], "step": line["step"]}
    return Rollout(
        task=task,
        group=str(line["group"]),
        prompt=Prompt([]),
        tokens=[],
        trains=[],
        gen_logp=[],
        text=line["text"],
        stop=line["stop"],
        role=line["role"],
        scores=dict(line["scores"]),
        info={**line["info"], **facts},
    )


def _written(row: Task, source: Task) -> dict[str, Any]:
    """A row as what it changes of the task that was asked."""
    columns = {name: value for name, value in row.columns.items() if source.columns.get(name) is not value}
    asked = {name: getattr(row, name) for name in ("prompt", "answer") if getattr(row, name) != getattr(source, name)}
    media = {"media": []} if source.media and not row.media else {}  # another question may be one about text alone
    return {"task": row.id, "demonstration": row.demonstration, "columns": columns, **asked, **media}


def _read(row: Mapping[str, Any], known: Mapping[str, Task]) -> Task:
    task, columns = known[row["task"]], {**known[row["task"]].columns, **row["columns"]}
    other = {name: row[name] for name in ("prompt", "answer") if name in row}
    media = () if "media" in row else task.media
    return replace(task, demonstration=row["demonstration"], columns=columns, media=media, **other)


def _told_apart(rows: Sequence[Task]) -> list[Task]:
    """Rows of one task get ids of their own."""
    seen: dict[str, int] = {}
    found = []
    for row in rows:
        seen[row.id] = number = seen.get(row.id, 0) + 1
        found.append(row if number == 1 else replace(row, id=f"{row.id}#{number}"))
    return found


def _keep(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Whole or not at all, by the first rank."""
    from rlpost.config import environment_rank

    if environment_rank() == 0:
        partial = folder / f"{ROWS}.partial"
        partial.unlink(missing_ok=True)
        files.append_lines(partial, rows)
        partial.replace(folder / ROWS)


def _listed(places: Any) -> list[str]:
    return [] if places is None else [places] if isinstance(places, str) else list(places)
