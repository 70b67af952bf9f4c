"""A run folder as `rlpost compare` reads it: files only, without torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlpost.errors import ConfigError
from rlpost.origin import flatten
from rlpost.run import files

WHEN = ("after", "eval", "before")  # the first that a run has is compared


@dataclass(frozen=True)
class Run:
    """One run. `config` and `origin` by dotted key; `tasks` are the records of `evaluation.jsonl` by task id.

    `tokens` are the completion tokens that the model had written or been taught by the end of each step.
    """

    name: str
    path: Path
    verb: str
    config: Mapping[str, Any]
    origin: Mapping[str, str]
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    when: str | None
    tasks: Mapping[str, Mapping[str, Any]]
    tokens: Mapping[int, int]

    @property
    def evaluated(self) -> Mapping[str, Any]:
        """How its tasks were measured: scores, threshold, sampling, and the fingerprint of the tasks."""
        return self.environment.get("evaluated") or {}


def read(paths: Sequence[Path], when: str | None = None) -> list[Run]:
    """The runs in these folders, with names that tell them apart. `when` is before, after or eval (default: see WHEN).

    Raises ConfigError with every folder that is none of a run, and for one that is named twice.
    """
    faults = [fault for path in paths if (fault := _fault(path))]
    twice = {path.resolve() for path in paths if [p.resolve() for p in paths].count(path.resolve()) > 1}
    faults += [f"{path} is named twice; a run equals itself" for path in sorted(twice)]
    if len(paths) < 2:
        faults.append("there is nothing to compare with: name at least two run folders")
    if when is not None and when not in WHEN:
        faults.append(f"--at {when} is no measurement; there are {', '.join(sorted(WHEN))}")
    if faults:
        raise ConfigError(faults)
    return [_read(path, name, when) for path, name in zip(paths, names(paths), strict=True)]


def names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many parts before it as tell all apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(one[-length:]) for one in parts]
        if len(set(found)) == len(found):
            break
    return found


def origins(text: str) -> dict[str, str]:
    """Where each value of a `config.yaml` came from, by dotted key: the comment at the end of its line."""
    lines = text.split("\n")
    found: dict[str, str] = {}

    def walk(node: yaml.Node, prefix: str) -> None:
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            for key, value in node.value:
                walk(value, f"{prefix}.{key.value}" if prefix else str(key.value))
            return
        # A text may hold `  # ` itself: the comment is what stands behind the value.
        behind = lines[node.end_mark.line][node.end_mark.column :]
        _, mark, comment = behind.partition("  # ")
        if mark:
            found[prefix] = comment

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        walk(root, "")
    return found


def tokens_by_step(folder: Path, metrics: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Completion tokens up to and with each logged step: of every row that was sampled, or of every answer taught.

    Sampled rows are counted in `rollouts.jsonl`, answers in the `tokens` of `metrics.jsonl`. Prompts do not count.
    """
    steps = sorted({int(r["step"]) for r in metrics if r.get("phase", "train") == "train" and r.get("step")})
    sampled = _sampled(folder / "rollouts.jsonl")
    found, total, last = {}, 0.0, 0
    taught = {int(r["step"]): r["tokens"] for r in metrics if r.get("step") and r.get("tokens") is not None}
    for step in steps:
        between = range(last + 1, step + 1)
        total += sum(sampled.get(i, 0) for i in between) if sampled else taught.get(step, 0.0) * len(between)
        found[step], last = round(total), step
    return found if total else {}


def _sampled(place: Path) -> dict[int, int]:
    """Tokens of the rows of each step; the file may be large, so it is read line by line."""
    found: dict[int, int] = {}
    if not place.is_file():
        return found
    with place.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that a running run is writing
                continue
            if row.get("step") is not None:
                found[row["step"]] = found.get(row["step"], 0) + int(row.get("tokens") or 0)
    return found


def _fault(path: Path) -> str | None:
    if not path.is_dir():
        return f"there is no run folder at {path}"
    if not (path / "config.yaml").is_file():
        return f"{path} is no run folder: it has no config.yaml"
    if (path / "stages.json").is_file():
        stages = ", ".join(str(path / name) for name in files.read_json(path / "stages.json"))
        return f"{path} is a pipeline; compare its stages: {stages}"
    return None


def _read(path: Path, name: str, when: str | None) -> Run:
    text = (path / "config.yaml").read_text(encoding="utf-8")
    environment = files.read_json(path / "environment.json") or {}
    metrics = files.read_lines(path / "metrics.jsonl")
    measured = files.read_lines(path / "evaluation.jsonl")
    there = {line["when"] for line in measured}
    chosen = next((one for one in ([when] if when else WHEN) if one in there), None)
    return Run(
        name=name,
        path=path,
        verb=environment.get("verb", ""),
        config=flatten(yaml.safe_load(text) or {}),
        origin=origins(text),
        environment=environment,
        metrics=metrics,
        when=chosen,
        tasks={line["task"]: line for line in measured if line["when"] == chosen},
        tokens=tokens_by_step(path, metrics),
    )
