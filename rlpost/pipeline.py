"""Pipelines: stages that feed each other, in one process, resumed at the stage and inside it.

A stage is `{name, run: <verb>, with: [overrides], init: <stage>, times}`; a group has `stages` instead of `run`.
`with` may also map verbs to overrides (`all` for every verb); it holds for everything below a group. `times` runs a
stage or group again; from the second time on, training goes on from its own model of the time before.
`each` runs a stage or group for every combination of values: `{seed: [0, 1]}` sets `seed=0` and `seed=1`,
`{arm: {a: [x=1], b: [x=2]}}` names lists of overrides. `<stage.path>` in an override is a number from the result of an
earlier stage, such as `trainer.max_minutes=<t_grpo.minutes>`.
"""

import gc
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from rlpost.errors import ConfigError, RlpostError
from rlpost.origin import flatten
from rlpost.run import checkpoint, files, summary, tables
from rlpost.run.folder import RunFolder
from rlpost.words import near

if TYPE_CHECKING:
    from rlpost.config import Config

TRAINING = ("sft", "grpo", "dpo", "reward")
VERBS = (*TRAINING, "eval", "sample")
KEYS = ("name", "run", "with", "init", "times", "each", "stages")
LATER = {
    "data": "feeding one stage's rollouts to the next (data) is not available yet: remove it",
    "keep": "keeping the optimizer from one stage to the next (keep) is not available yet: remove it",
    "models": "taking a second model from a stage (models.<role>) is not available yet: name a saved model instead",
}
_REFERENCE = re.compile(r"<(?P<stage>[\w-]+)\.(?P<path>[\w.@/ -]+)>")

Runner = Callable[[str, list[str], Path], Mapping[str, Any]]


class Stage(NamedTuple):
    """One run of a stage: `path` are the folders below the pipeline's, `cell` the values of `each` that hold for it."""

    path: tuple[str, ...]
    name: str
    verb: str
    overrides: tuple[str, ...]
    init: tuple[str, ...] | None
    cell: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def label(self) -> str:
        """The folder below the pipeline's, with slashes."""
        return "/".join(self.path)


class _Scope(NamedTuple):
    path: tuple[str, ...]
    overrides: tuple[tuple[str, str], ...]  # (verb or all, override)
    cell: tuple[tuple[str, str], ...]
    faults: list[str]
    rounds: bool = False  # below `times`
    again: bool = False  # in the second round or a later one


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


def plan(pipeline: Mapping[str, Any], shared: Sequence[str] = ()) -> list[Stage]:
    """All runs in order. Raises ConfigError with every fault of the stages' shape."""
    found: list[str] = []
    unknown = [key for key in pipeline if key not in ("stages", "with", "table")]
    found += [f"unknown key pipeline.{key}{near(key, ['stages', 'with', 'table'])}" for key in unknown]
    scope = _Scope((), tuple(("all", override) for override in shared), (), found)
    scope = scope._replace(overrides=scope.overrides + _with(pipeline, "pipeline", found))
    nodes = pipeline.get("stages")
    if not isinstance(nodes, list) or not nodes:
        found.append("the pipeline has no stages: pick one with pipeline=<name>, or list stages: [{name, run, with}]")
        nodes = []
    stages = _expand(nodes, scope, {})
    paths = [stage.path for stage in stages]
    found += [f"two stages would share the folder {'/'.join(path)}" for path in set(paths) if paths.count(path) > 1]
    found += summary.faults(pipeline.get("table"), [stage.name for stage in stages]) if stages else []
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    return stages


def check_stages(stages: Sequence[Stage]) -> None:
    """Compose and check every stage before the first one runs; a number from an earlier stage counts as 1."""
    from rlpost.config import check, compose

    found = []
    for stage in stages:
        overrides = _debugged(stage.verb, [_REFERENCE.sub("1.0", override) for override in stage.overrides])
        try:
            check(compose(stage.verb, [*overrides, *(["init=model"] if stage.init else [])]))
        except ConfigError as fault:
            found += [f"stage {stage.label}: {line}" for line in fault.faults]
    if found:
        raise ConfigError(found)


def run_stage(verb: str, overrides: list[str], folder: Path) -> dict[str, Any]:
    """The ordinary runner: compose, check and run a verb in its own run folder, continuing what a checkpoint holds."""
    from rlpost import execute, ledger
    from rlpost.config import check, compose

    ledger.reset()
    cfg = compose(verb, [*_debugged(verb, overrides), _setting("resume" if _resumable(folder) else "run.dir", folder)])
    check(cfg)
    return execute.run_checked(cfg)


def _debugged(verb: str, overrides: Sequence[str]) -> list[str]:
    """The overrides of a stage, with the values of `debug=<name>` behind those of its own `with`."""
    from rlpost import catalogue

    picked = [text.removeprefix("debug=") for text in overrides if text.startswith("debug=")]
    path = catalogue.options("debug", [catalogue.recipes_dir()]).get(picked[-1]) if picked else None
    section = (catalogue.read_yaml(path) or {}).get(verb) if path else None
    return [*overrides, *(f"{key}={value}" for key, value in flatten(section or {}).items())]


def _expand(nodes: Sequence[Any], scope: _Scope, known: dict[str, Stage]) -> list[Stage]:
    """Runs of a list of stages; `known` holds the latest run of each name that a later stage may refer to."""
    stages, names = [], set()
    for index, node in enumerate(nodes):
        where = "/".join([*scope.path, str(node.get("name") or index) if isinstance(node, Mapping) else str(index)])
        problem = _shape(node, where, names)
        if isinstance(node, Mapping) and node.get("each") and scope.rounds:
            problem.append(
                f"stage {where}: each stands outside of times: a round goes on from one model, not from several"
            )
        if problem:
            scope.faults.extend(problem)
            continue
        names.add(node["name"])
        inner = scope._replace(overrides=scope.overrides + _with(node, f"stage {where}", scope.faults))
        cells = _cells(node.get("each"))
        for cell in cells:
            stages += _repeat(node, cell, inner, known if len(cells) == 1 and not cell else dict(known))
    return stages


def _repeat(node: Mapping[str, Any], cell: list, scope: _Scope, known: dict[str, Stage]) -> list[Stage]:
    """`times` runs of a stage in one cell; from the second on, training goes on from the run before."""
    name, times = node["name"], node.get("times", 1)
    tail = "-".join(re.sub(r"[^\w.-]+", "-", f"{axis}-{value}") for axis, value, _ in cell)
    added = tuple(("all", override) for _, _, overrides in cell for override in overrides)
    scope = scope._replace(
        overrides=scope.overrides + added, cell=scope.cell + tuple((axis, value) for axis, value, _ in cell)
    )
    stages: list[Stage] = []
    for round_ in range(1, times + 1):
        folder = "-".join(filter(None, [name, tail, str(round_) if times > 1 else ""]))
        path = (*scope.path, folder)
        inner = scope
        if times > 1:
            cell_of_round = (*scope.cell, (f"{name} round", str(round_)))
            inner = scope._replace(cell=cell_of_round, rounds=True, again=scope.again or round_ > 1)
        if "stages" in node:
            stages += _expand(node["stages"], inner._replace(path=path), known)
            continue
        stage = _leaf(node, path, inner, known)
        known[name] = stage
        stages.append(stage)
    return stages


def _leaf(node: Mapping[str, Any], path: tuple[str, ...], scope: _Scope, known: dict[str, Stage]) -> Stage:
    name, verb = node["name"], node["run"]
    source = name if scope.again and verb in TRAINING else node.get("init")
    if source is not None and source not in known:
        hint = near(source, list(known)) or f"; earlier stages: {', '.join(known) or 'none'}"
        scope.faults.append(f"stage {'/'.join(path)}: init={source} is no earlier stage{hint}")
    elif source is not None and known[source].verb not in TRAINING:
        scope.faults.append(f"stage {'/'.join(path)}: init={source} is `{known[source].verb}`, which saves no model")
    overrides = _last_of_each_key([text for target, text in scope.overrides if target in ("all", verb)])
    wanted = {match["stage"] for text in overrides for match in _REFERENCE.finditer(text)}
    for other in sorted(wanted - set(known)):
        scope.faults.append(f"stage {'/'.join(path)}: <{other}. ...> in an override is no earlier stage")
    start = known[source].path if source in known else None
    sources = tuple((other, known[other].path) for other in sorted(wanted & set(known)))
    return Stage(path, name, verb, tuple(overrides), start, scope.cell, sources)


def _shape(node: Any, where: str, names: set[str]) -> list[str]:
    """Faults of one stage as it is written, without its relation to others."""
    if not isinstance(node, Mapping):
        return [f"stage {where} must be a mapping with name and run (or stages), not {node!r}"]
    found = []
    for key in node:
        if key in LATER or key.startswith("models."):
            found.append(f"stage {where}: {LATER[key.partition('.')[0]]}")
        elif key not in KEYS:
            found.append(f"stage {where}: unknown key {key!r}{near(key, KEYS) or '; it has ' + ', '.join(KEYS)}")
    name, verb = node.get("name"), node.get("run")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        found.append(f"stage {where}: name must be letters, digits, _ and -, not {name!r}")
    elif name in names:
        found.append(f"stage {where}: there are two stages of this name in one list; rename one")
    if ("run" in node) == ("stages" in node):
        found.append(f"stage {where} must have either run: <verb> or stages: [...]")
    elif "run" in node and verb not in VERBS:
        found.append(f"stage {where}: run={verb!r} is no verb; there are {', '.join(VERBS)}")
    elif "stages" in node and (not isinstance(node["stages"], list) or not node["stages"] or "init" in node):
        found.append(f"stage {where}: stages must be a list of stages, and init belongs to one of them")
    times = node.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        found.append(f"stage {where}: times must be a whole number from 1, not {times!r}")
    each = node.get("each")
    good = isinstance(each, Mapping) and all(isinstance(v, (list, Mapping)) and v for v in each.values())
    if each is not None and not good:
        found.append(f"stage {where}: each must map keys to lists of values, or to named lists of overrides: {each!r}")
    return found


def _cells(each: Mapping[str, Any] | None) -> list[list[tuple[str, str, list[str]]]]:
    """Every combination of the values of `each`: (axis, value, the overrides it stands for)."""
    axes = []
    for axis, values in (each or {}).items():
        if isinstance(values, Mapping):
            axes.append([(axis, str(name), list(overrides or [])) for name, overrides in values.items()])
        else:
            axes.append([(axis, str(value), [f"{axis}={value}"]) for value in values])
    return [list(cell) for cell in product(*axes)]


def _with(node: Mapping[str, Any], where: str, faults: list[str]) -> tuple[tuple[str, str], ...]:
    given = node.get("with") or []
    by_verb = given if isinstance(given, Mapping) else {"all": given}
    found = []
    for verb, overrides in by_verb.items():
        if verb not in ("all", *VERBS):
            faults.append(f"{where}: with.{verb} is no verb; there are all, {', '.join(VERBS)}")
        elif not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
            faults.append(
                f"{where}: with must be a list of overrides such as [trainer.max_steps=20], not {overrides!r}"
            )
        else:
            found += [(verb, text) for text in overrides]
    return tuple(found)


def _last_of_each_key(overrides: Sequence[str]) -> list[str]:
    """The inner stage's word counts: of several overrides of one key the last stays."""
    return list({text.partition("=")[0].lstrip("+"): text for text in overrides}.values())


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
    if stage.init:
        overrides.append(_setting("init", folder.path.joinpath(*stage.init, "model")))
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
    """An override that survives spaces, commas and `=` in a path."""
    quoted = str(place).replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{quoted}'"


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
    sources = dict(stage.sources)

    def look(match: re.Match) -> str:
        value = summary.lookup(results[sources[match["stage"]]], match["path"])
        if value is None:
            raise ConfigError(
                f"stage {stage.label}: {match[0]} in {text!r}: that stage's result has no {match['path']}"
            )
        return repr(value)

    return _REFERENCE.sub(look, text)


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
    planned = {s.label: {"run": s.verb, "with": list(s.overrides), "init": "/".join(s.init or ())} for s in stages}
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
