"""Pipelines: stages that feed each other, in one process, resumed at the stage and inside it (stages.py reads them)."""

import gc
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rlpost.errors import ConfigError, RlpostError
from rlpost.origin import flatten
from rlpost.run import checkpoint, files, summary, tables
from rlpost.run.folder import RunFolder
from rlpost.stages import REFERENCE, Source, Stage, plan

if TYPE_CHECKING:
    from rlpost.config import Config

Runner = Callable[[str, list[str], Path], Mapping[str, Any]]


def run(cfg: "Config", folder: RunFolder, stage_runner: Runner | None = None) -> dict[str, Any]:
    """Run every stage that has not finished yet; returns the tables over stages and the minutes that they took."""
    pipeline = cfg.tree.get("pipeline") or {}
    stages = plan(pipeline, common(cfg))
    if stage_runner is None:
        check_stages(stages)
    _same_plan(folder, stages)
    console = Console(stderr=True, quiet=not folder.writes)
    results: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for index, stage in enumerate(stages, start=1):
        results[stage.path] = _run_stage(stage, f"{index}/{len(stages)}", folder, results, stage_runner, console)
        drawn = summary.build(pipeline.get("table"), stages, results)
        if folder.writes:
            files.write_json(folder.path / "summary.json", drawn, folder.safe)
    for part in drawn["tables"]:
        console.print(tables.table(part["title"], part["columns"], part["rows"]))
    objectives = [result["objective"] for result in results.values() if result.get("objective") is not None]
    minutes = sum(result.get("minutes") or 0.0 for result in results.values())
    return {"minutes": minutes, "tables": drawn["tables"], **({"objective": objectives[-1]} if objectives else {})}


def faults(cfg: "Config") -> list[str]:
    """Every fault of a pipeline: its shape, and the configuration of each of its stages. Imports nothing heavy."""
    try:
        check_stages(plan(cfg.tree.get("pipeline") or {}, common(cfg)))
    except ConfigError as fault:
        return fault.faults
    return []


def common(cfg: "Config") -> list[str]:
    """What is said once for the pipeline and holds for every stage: search path, seed, debug, launch and logger."""
    found = [text for text in cfg.overrides if text.lstrip("+").startswith("hydra.searchpath=")]
    picked = [f"{axis}={cfg.picks[axis][-1]}" for axis in ("debug", "launch", "logger") if cfg.picks.get(axis)]
    return [*found, f"seed={cfg.tree.get('seed', 0)}", *picked]


def check_stages(stages: Sequence[Stage]) -> None:
    """Compose and check every stage before the first one runs; a number from an earlier stage counts as 1."""
    from rlpost.checks.places import data_and_model
    from rlpost.config import check, compose

    found, seen = [], set()
    for stage in stages:
        overrides = debugged(stage.verb, [REFERENCE.sub("1.0", override) for override in stage.overrides])
        overrides += taken(_anywhere(stage), Path("pipeline"))
        if (stage.verb, *overrides) in seen:  # the rounds of a loop differ in folders only
            continue
        seen.add((stage.verb, *overrides))
        try:
            cfg = compose(stage.verb, overrides)
            check(cfg)
            data_and_model(cfg.tree)
        except ConfigError as fault:
            found += [f"stage {stage.label}: {line}" for line in fault.faults]
    if found:
        raise ConfigError(found)


def _anywhere(stage: Stage) -> Stage:
    """The stage with all that it takes in one folder."""
    place = ("stage",)
    return stage._replace(
        init=place if stage.init else None,
        models=tuple((role, Source(place, source.verb)) for role, source in stage.models),
        built_from=(place,) if stage.built_from else (),
        optimizer=place if stage.optimizer else None,
    )


def taken(stage: Stage, root: Path) -> list[str]:
    """What a stage takes from earlier ones, as overrides: weights, second models, completions, an optimizer."""
    found = [_setting("init", root.joinpath(*stage.init, "model"))] if stage.init else []
    for role, source in stage.models:
        found.append(_second_model(role, source, root, stage.overrides))
    if stage.build:
        found.append(f"build={stage.build}")
        found.append(f"built_from=[{','.join(_quoted(root.joinpath(*path)) for path in stage.built_from)}]")
    if stage.optimizer:
        found.append(_setting("trainer.optimizer_from", root.joinpath(*stage.optimizer)))
    return found


def _second_model(role: str, source: Source, root: Path, overrides: Sequence[str]) -> str:
    """The model of a stage in a role: it replaces the model of the scorer that is picked for the role, if one is."""
    run = root.joinpath(*source.path)
    picked = any(text.lstrip("+").startswith(f"scorer@models.{role}=") for text in overrides)
    if source.verb == "reward":
        path = _quoted(run / "model")
        head = "{_target_: rlpost.models.scorer.heads.RewardHead, path: "
        return f"models.{role}.path={path}" if picked else f"models.{role}={head}{path}}}"
    node = f"{{_target_: rlpost.models.saved.trained, run: {_quoted(run)}}}"
    if role == "reference":
        return f"models.reference={node}"
    whole = f"{{_target_: rlpost.models.scorer.local.Local, model: {node}}}"
    return f"models.{role}.model={node}" if picked else f"models.{role}={whole}"


def run_stage(verb: str, overrides: list[str], folder: Path) -> dict[str, Any]:
    """The ordinary runner: compose, check and run a verb in its own run folder, continuing what a checkpoint holds."""
    from rlpost import execute
    from rlpost.config import check, compose

    cfg = compose(verb, [*debugged(verb, overrides), _setting("resume" if _resumable(folder) else "run.dir", folder)])
    check(cfg)
    return execute.run_checked(cfg)


def debugged(verb: str, overrides: Sequence[str]) -> list[str]:
    """The overrides of a stage, with the values of `debug=<name>` behind those of its own `with`."""
    from rlpost import catalogue

    picked = [text.removeprefix("debug=") for text in overrides if text.startswith("debug=")]
    path = catalogue.options("debug", [catalogue.recipes_dir()]).get(picked[-1]) if picked else None
    section = (catalogue.read_yaml(path) or {}).get(verb) if path else None
    return [*overrides, *(f"{key}={value}" for key, value in flatten(section or {}).items())]


def _run_stage(
    stage: Stage,
    position: str,
    folder: RunFolder,
    results: Mapping[tuple[str, ...], Mapping[str, Any]],
    runner: Runner | None,
    console: Console,
) -> Mapping[str, Any]:
    place = folder.path.joinpath(*stage.path)
    before = files.read_json(place / "done.json")
    if before and before.get("status") == "ok":
        console.print(f"stage {position} {stage.label}: finished before", markup=False, highlight=False)
        return before
    console.print(f"stage {position} {stage.label} ({stage.verb})", markup=False, highlight=False, style="bold")
    overrides = [_filled(text, stage, results) for text in stage.overrides]
    overrides += taken(stage, folder.path)
    began = time.monotonic()
    try:
        result = dict((runner or run_stage)(stage.verb, overrides, place))
    except RlpostError as error:
        _name_stage(error, stage, folder)
        raise
    result.setdefault("minutes", (time.monotonic() - began) / 60)
    if folder.writes and not (place / "done.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        files.write_json(place / "done.json", {"status": "ok", **result}, folder.safe)
    gc.collect()  # a stage's models and optimizer hang in reference cycles, and the next stage needs the memory
    return result


def _setting(key: str, place: Path) -> str:
    return f"{key}={_quoted(place)}"


def _quoted(place: Path) -> str:
    """A value of an override that survives spaces, commas and `=` in a path."""
    return "'{}'".format(str(place).replace("\\", "\\\\").replace("'", "\\'"))


def _name_stage(error: RlpostError, stage: Stage, folder: RunFolder) -> None:
    """The sentence says which stage it is about, and that the pipeline is continued, not the stage."""
    if isinstance(error, ConfigError):
        error.faults = [f"stage {stage.label}: {fault}" for fault in error.faults]
        error.args = ("\n".join(error.faults),)
        return
    said = str(error).partition(", continue with")[0].rstrip(".")
    error.args = (f"stage {stage.label}: {said}. The pipeline continues with resume={folder.path}",)


def _filled(text: str, stage: Stage, results: Mapping[tuple[str, ...], Mapping[str, Any]]) -> str:
    """`<stage.path>` replaced by the number in that stage's result."""
    sources = dict(stage.numbers)

    def look(match: re.Match) -> str:
        value = summary.lookup(results[sources[match["stage"]]], match["path"])
        if value is None:
            raise ConfigError(
                f"stage {stage.label}: {match[0]} in {text!r}: that stage's result has no {match['path']}"
            )
        return repr(value)

    return REFERENCE.sub(look, text)


def _resumable(folder: Path) -> bool:
    """Whether a stage can go on from a checkpoint; what a stage without one left behind is put aside."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if (folder / "config.yaml").is_file() and checkpoint.latest(folder / "checkpoints").path is not None:
        return True
    number = 1
    while (aside := folder.with_name(f"{folder.name}.stopped-{number}")).exists():
        number += 1
    folder.rename(aside)
    return False


def _same_plan(folder: RunFolder, stages: Sequence[Stage]) -> None:
    """A finished stage is skipped on resume, so what it was must not have changed."""
    place = folder.path / "stages.json"
    planned = {stage.label: stage.facts() for stage in stages}
    earlier = files.read_json(place) or {}
    finished = [label for label in earlier if (folder.path / label / "done.json").exists()]
    changed = [label for label in finished if earlier[label] != planned.get(label)]
    if changed:
        raise ConfigError(
            f"The stages {', '.join(changed)} in {folder.path} ran with other settings than this pipeline has now: "
            "resume with the settings of then, or choose another run.dir."
        )
    if folder.writes:
        files.write_json(place, planned, folder.safe)
