"""What a pipeline's YAML means: its stages in the order in which they run, each with where it takes what from.

A stage is `{name, run: <verb>, with: [overrides], init: <stage>, models.<role>: <stage>, data: {from, build}, times,
keep: [optimizer]}`; a group has `stages` instead of `run`. A stage is named by its name, which means its latest run;
`<name>~1` is the run before that, and `[a, b]` is a, or b until a has run. Inside `times` a name may stand before its
stage: until that has run, the model, the second model or the dataset is the one that is picked. From the second time
on, training goes on from what ran last: its own model of the time before, or the stage that `init` names.

`with` may also map verbs to overrides (`all` for every verb); it holds for everything below a group.
`each` runs a stage or group for every combination of values: `{seed: [0, 1]}` sets `seed=0` and `seed=1`,
`{arm: {a: [x=1], b: [x=2]}}` names lists of overrides. `<stage.path>` in an override is a number from the result of an
earlier stage, such as `trainer.max_minutes=<t_grpo.minutes>`; `<round>` counts the rounds of the loop from 0.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from rlpost.errors import ConfigError
from rlpost.run import summary
from rlpost.words import near

TRAINING = ("sft", "grpo", "dpo", "reward")
VERBS = (*TRAINING, "eval", "sample")
SAMPLING = ("sample", "eval", "grpo")  # the verbs that write rollouts.jsonl
REFERRING = ("sft", "grpo", "dpo")  # the verbs that hold the policy against a reference
KEYS = ("name", "run", "with", "init", "data", "times", "keep", "each", "stages")
ROLE = "models."
REFERENCE = re.compile(r"<(?P<stage>[\w-]+)\.(?P<path>[\w.@/ -]+)>")
ROUND = "<round>"
_NAME = re.compile(r"(?P<name>[\w-]+)(~(?P<back>\d+))?")


class Source(NamedTuple):
    """An earlier stage that this one takes a model or rollouts from."""

    path: tuple[str, ...]
    verb: str


class Stage(NamedTuple):
    """One run of a stage: `path` are the folders below the pipeline's, `cell` the values of `each` that hold for it."""

    path: tuple[str, ...]
    name: str
    verb: str
    overrides: tuple[str, ...]
    cell: tuple[tuple[str, str], ...]
    number: int
    init: tuple[str, ...] | None = None
    numbers: tuple[tuple[str, tuple[str, ...]], ...] = ()  # stages whose results stand in overrides
    models: tuple[tuple[str, Source], ...] = ()  # by role
    build: str | None = None
    built_from: tuple[tuple[str, ...], ...] = ()
    optimizer: tuple[str, ...] | None = None  # the stage whose optimizer goes on

    @property
    def label(self) -> str:
        """The folder below the pipeline's, with slashes."""
        return "/".join(self.path)

    def facts(self) -> dict[str, Any]:
        """What the stage is, as plain data."""
        return {
            "run": self.verb,
            "with": list(self.overrides),
            "init": "/".join(self.init or ()),
            "models": {role: "/".join(source.path) for role, source in self.models},
            "data": [self.build, *("/".join(path) for path in self.built_from)] if self.build else [],
            "optimizer": "/".join(self.optimizer or ()),
        }


class _Scope(NamedTuple):
    path: tuple[str, ...]
    overrides: tuple[tuple[str, str], ...]  # (verb or all, override)
    cell: tuple[tuple[str, str], ...]
    faults: list[str]
    clock: Iterator[int]
    looped: frozenset[str] = frozenset()  # names of all stages below the loops around
    again: bool = False  # in the second round of a loop or a later one
    round: int = 0  # of the innermost loop


_Known = dict[str, tuple[Stage, ...]]  # every run of a stage so far, by its name


def plan(pipeline: Mapping[str, Any], shared: Sequence[str] = ()) -> list[Stage]:
    """All runs in order. Raises ConfigError with every fault of the stages' shape."""
    found: list[str] = []
    unknown = [key for key in pipeline if key not in ("stages", "with", "table", "about")]
    found += [f"unknown key pipeline.{key}{near(key, ['stages', 'with', 'table', 'about'])}" for key in unknown]
    scope = _Scope((), tuple(("all", override) for override in shared), (), found, itertools.count())
    scope = scope._replace(overrides=scope.overrides + _with(pipeline, "pipeline", found))
    nodes = pipeline.get("stages")
    if not isinstance(nodes, list) or not nodes:
        found.append("the pipeline has no stages: pick one with pipeline=<name>, or list stages: [{name, run, with}]")
        nodes = []
    stages = _expand(nodes, scope, {})
    paths = [stage.path for stage in stages]
    found += [f"two stages would share the folder {'/'.join(path)}" for path in set(paths) if paths.count(path) > 1]
    kept = {stage.name for stage in stages if stage.optimizer}
    found += [
        f"stage {name}: keep: [optimizer] has nothing to keep, because the stage never goes on from its own model"
        for name in _keeping(nodes)
        if name not in kept and not found
    ]
    found += summary.faults(pipeline.get("table"), [stage.name for stage in stages]) if stages else []
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    return stages


def _keeping(nodes: Sequence[Any]) -> list[str]:
    """Names of the stages that keep their optimizer."""
    found = []
    for node in (node for node in nodes if isinstance(node, Mapping)):
        found += _keeping(node["stages"]) if isinstance(node.get("stages"), list) else []
        found += [str(node.get("name"))] if node.get("keep") else []
    return found


def _names(node: Mapping[str, Any]) -> frozenset[str]:
    """Names of the stages of a group, of those in groups below it, and of a stage itself."""
    below = node.get("stages")
    if not isinstance(below, list):
        return frozenset([str(node.get("name"))])
    return frozenset().union(*(_names(one) for one in below if isinstance(one, Mapping)))


def _expand(nodes: Sequence[Any], scope: _Scope, known: _Known) -> list[Stage]:
    """Runs of a list of stages."""
    stages, names = [], set()
    for index, node in enumerate(nodes):
        where = "/".join([*scope.path, str(node.get("name") or index) if isinstance(node, Mapping) else str(index)])
        problem = _shape(node, where, names)
        if isinstance(node, Mapping) and node.get("each") and scope.looped:
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


def _repeat(node: Mapping[str, Any], cell: list, scope: _Scope, known: _Known) -> list[Stage]:
    """`times` runs of a stage in one cell."""
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
        if "times" in node:
            inner = inner._replace(
                looped=scope.looped | _names(node), again=scope.again or round_ > 1, round=round_ - 1
            )
        if times > 1:
            inner = inner._replace(cell=(*scope.cell, (f"{name} round", str(round_))))
        if "stages" in node:
            stages += _expand(node["stages"], inner._replace(path=path), known)
            continue
        stage = _leaf(node, path, inner, known)
        known[name] = (*known.get(name, ()), stage)
        stages.append(stage)
    return stages


def _leaf(node: Mapping[str, Any], path: tuple[str, ...], scope: _Scope, known: _Known) -> Stage:
    """One run, with the runs that it takes something from."""
    name, verb, where = node["name"], node["run"], "/".join(path)
    start = _earlier(node.get("init"), f"stage {where}: init", scope, known, TRAINING, "saves no model")
    own = known[name][-1] if scope.again and verb in TRAINING and name in known else None
    start = max((one for one in (start, own) if one), key=lambda one: one.number, default=None)
    given = [text for target, text in scope.overrides if target in ("all", verb)]
    overrides = [text.replace(ROUND, str(scope.round)) for text in _last_of_each_key(given)]
    wanted = {match["stage"] for text in overrides for match in REFERENCE.finditer(text)}
    for other in sorted(wanted - set(known)):
        scope.faults.append(f"stage {where}: <{other}. ...> in an override is no earlier stage")
    models = []
    for key in (key for key in node if key.startswith(ROLE)):
        found = _earlier(node[key], f"stage {where}: {key}", scope, known, TRAINING, "saves no model")
        models += [(key.removeprefix(ROLE), Source(found.path, found.verb))] if found else []
    data = node.get("data") or {}
    sources = [
        _earlier(one, f"stage {where}: data.from", scope, known, SAMPLING, "writes no completions")
        for one in _listed(data.get("from"))
    ]
    built_from = tuple(source.path for source in sources if source)
    goes_on = start is not None and start.name == name and start.verb == verb and node.get("keep")
    return Stage(
        path,
        name,
        verb,
        tuple(overrides),
        scope.cell,
        next(scope.clock),
        init=start.path if start else None,
        numbers=tuple((other, known[other][-1].path) for other in sorted(wanted & set(known))),
        models=tuple(models),
        build=data["build"] if built_from else None,
        built_from=built_from,
        optimizer=start.path if start and goes_on else None,
    )


def _earlier(named: Any, what: str, scope: _Scope, known: _Known, verbs: Sequence[str], lacks: str) -> Stage | None:
    """The run that a name means, or the first of several names that has run.

    None where nothing is named, or where the stages are of a loop around and did not run yet.
    """
    matches = [_NAME.fullmatch(one) if isinstance(one, str) else None for one in _listed(named)]
    unknown = []
    for match in matches:
        if match is None:
            scope.faults.append(f"{what}={named!r} must be the name of a stage, or a list of names")
            return None
        name, back = match["name"], int(match["back"] or 0)
        runs = known.get(name, ())
        if len(runs) > back:
            if runs[-1 - back].verb in verbs:
                return runs[-1 - back]
            scope.faults.append(f"{what}={name} is `{runs[-1].verb}`, which {lacks}")
        elif name not in scope.looped:
            unknown.append(match[0])
    for one in unknown:
        hint = near(one, list(known)) or f"; earlier stages: {', '.join(known) or 'none'}"
        scope.faults.append(f"{what}={one} is no earlier stage{hint}")
    return None


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _shape(node: Any, where: str, names: set[str]) -> list[str]:
    """Faults of one stage as it is written, without its relation to others."""
    if not isinstance(node, Mapping):
        return [f"stage {where} must be a mapping with name and run (or stages), not {node!r}"]
    found = []
    for key in node:
        if key not in KEYS and not (key.startswith(ROLE) and key != ROLE):
            hint = near(key, KEYS) or "; it has " + ", ".join((*KEYS, "models.<role>"))
            found.append(f"stage {where}: unknown key {key!r}{hint}")
    name, verb = node.get("name"), node.get("run")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name):
        found.append(f"stage {where}: name must be letters, digits, _ and -, not {name!r}")
    elif name in names:
        found.append(f"stage {where}: there are two stages of this name in one list; rename one")
    own = [key for key in node if key in ("init", "data", "keep") or key.startswith(ROLE)]
    if ("run" in node) == ("stages" in node):
        found.append(f"stage {where} must have either run: <verb> or stages: [...]")
    elif "run" in node and verb not in VERBS:
        found.append(f"stage {where}: run={verb!r} is no verb; there are {', '.join(VERBS)}")
    elif "stages" in node and (not isinstance(node["stages"], list) or not node["stages"] or own):
        found.append(
            f"stage {where}: stages must be a list of stages, and {own[0] if own else 'init'} belongs to one of them"
        )
    times = node.get("times", 1)
    if not isinstance(times, int) or isinstance(times, bool) or times < 1:
        found.append(f"stage {where}: times must be a whole number from 1, not {times!r}")
    each = node.get("each")
    good = isinstance(each, Mapping) and all(isinstance(v, (list, Mapping)) and v for v in each.values())
    if each is not None and not good:
        found.append(f"stage {where}: each must map keys to lists of values, or to named lists of overrides: {each!r}")
    return found + _handed_on(node, where)


def _handed_on(node: Mapping[str, Any], where: str) -> list[str]:
    """Faults of what one stage hands to the next: data, a kept optimizer, models."""
    found, verb, data, keep = [], node.get("run"), node.get("data"), node.get("keep")
    if data is not None:
        good = isinstance(data, Mapping) and set(data) == {"from", "build"} and isinstance(data["build"], str)
        if not good or not data["from"] or not isinstance(data["from"], (str, list)):
            found.append(f"stage {where}: data must be {{from: <stage or list of them>, build: <name>}}, not {data!r}")
        elif verb not in TRAINING:
            found.append(f"stage {where}: data is built for a stage that trains, not for `{verb}`")
    if keep is not None:
        if keep != ["optimizer"]:
            found.append(f"stage {where}: keep must be [optimizer], not {keep!r}")
        elif verb not in TRAINING:
            found.append(f"stage {where}: keep: [optimizer] belongs to a stage that trains, not to `{verb}`")
    if f"{ROLE}reference" in node and verb not in REFERRING:
        found.append(f"stage {where}: models.reference: `{verb}` has no reference; {', '.join(REFERRING)} have")
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
