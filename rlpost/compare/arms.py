"""Arms: runs that differ in nothing but keys such as the seed, and how arms did on the tasks that all runs share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlpost.compare import statistics
from rlpost.compare.runs import Run
from rlpost.errors import ConfigError, DataError
from rlpost.run.tables import Interval
from rlpost.words import near

# Where a run lies and what it was continued from decide no number.
PLACE = ("run.", "resume", "about.")


@dataclass(frozen=True)
class Arm:
    """Runs of one configuration, and for each of them the values of the keys that tell them apart."""

    name: str
    runs: tuple[Run, ...]
    cells: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Question:
    """What is asked of the completions: which scores count, from where on they are right, and of how many."""

    scores: tuple[str, ...]
    threshold: float
    ks: tuple[int, ...]


@dataclass(frozen=True)
class Metric:
    """A metric by arm, and each later arm minus the first: the interval, and on how many tasks it is more and less."""

    name: str
    arms: dict[str, Interval]
    differences: dict[str, Interval]
    more: dict[str, int]
    less: dict[str, int]


def grouped(runs: Sequence[Run], by: Sequence[str]) -> list[Arm]:
    """One arm per run; with `by`, runs whose configurations are equal but for these keys share one."""
    if not by:
        return [Arm(run.name, (run,), ((),)) for run in runs]
    known = {key for run in runs for key in run.config}
    unknown = [key for key in by if key not in known]
    if unknown:
        raise ConfigError([f"--by {key}: no run has that key{near(key, known)}" for key in unknown])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        same = {key: value for key, value in run.config.items() if key not in by and not key.startswith(PLACE)}
        groups.setdefault(repr([run.verb, sorted(same.items())]), []).append(run)
    arms = []
    for members in groups.values():
        name = members[0].name if len(members) == 1 else f"{members[0].name} and {len(members) - 1} more"
        cells = tuple(tuple(str(run.config.get(key)) for key in by) for run in members)
        arms.append(Arm(name, tuple(members), cells))
    return arms


def question(runs: Sequence[Run], score: str | None, threshold: float | None, ks: Sequence[int]) -> Question:
    """What all runs were measured by, unless it is given. Raises ConfigError where they were not measured alike."""
    faults = []
    asked = {tuple(run.evaluated.get("scores") or ()) for run in runs}
    limits = {run.evaluated.get("threshold") for run in runs}
    have = [{name for record in run.tasks.values() for name in record["scores"]} for run in runs]
    if score is None and len(asked) > 1:
        faults.append(f"the runs count different scores, {sorted(asked)}: choose one with --score")
    if threshold is None and len(limits) > 1:
        faults.append(f"the runs call a completion right from {sorted(map(str, limits))} on: choose with --threshold")
    for run, names in zip(runs, have, strict=True) if score else []:
        if score not in names:
            faults.append(f"--score {score}: {run.path} has {', '.join(sorted(names))}{near(score or '', names)}")
    if any(k < 1 for k in ks):
        faults.append("--k counts completions: it starts at 1")
    if threshold is not None and not math.isfinite(threshold):
        faults.append(f"--threshold {threshold}: a completion is right from a score on, so it must be a number")
    if faults:
        raise ConfigError(faults)
    scores = (score,) if score else asked.pop()
    sizes = [statistics.fewest(run.tasks, scores) for run in runs]
    none = [str(run.path) for run, size in zip(runs, sizes, strict=True) if not size]
    if none:
        raise DataError(f"the score {' or '.join(scores)} applies to no task of {', '.join(none)}; choose with --score")
    least = threshold if threshold is not None else float(limits.pop() or 1.0)
    return Question(scores, least, tuple(ks) or (1, *_several(min(sizes))))


def shared(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """The tasks that all runs have, and those that share an id but ask something else (which are no pairs)."""
    ids = [task for task in runs[0].tasks if all(task in run.tasks for run in runs)]
    same = [task for task in ids if len({run.tasks[task]["seen"] for run in runs}) == 1]
    return same, [task for task in ids if task not in set(same)]


def paired(arms: Sequence[Arm], tasks: Sequence[str], asked: Question) -> list[Metric]:
    """Every metric on the tasks that all runs share, and each arm against the first on the same tasks.

    Raises DataError where no task has a score in every run.
    """
    values = {run.name: _values(run, tasks, asked) for arm in arms for run in arm.runs}
    kept = [task for task in tasks if all(task in found for found in values.values())]
    if not kept:
        raise DataError("no task has a score in every run")
    found = []
    for name in _metrics(asked):
        tables = {arm.name: np.array([[values[r.name][t][name] for t in kept] for r in arm.runs]) for arm in arms}
        first, rest = arms[0], arms[1:]
        gains = {arm.name: tables[arm.name].mean(0) - tables[first.name].mean(0) for arm in rest}
        found.append(
            Metric(
                name,
                {arm: statistics.mean(table) for arm, table in tables.items()},
                {arm.name: _difference(arm, first, tables) for arm in rest},
                {arm: int((gain > 1e-12).sum()) for arm, gain in gains.items()},
                {arm: int((gain < -1e-12).sum()) for arm, gain in gains.items()},
            )
        )
    return found


def apart(arms: Sequence[Arm], asked: Question) -> list[Metric]:
    """Every metric of each arm on its own tasks, and differences of means that no pairing narrows."""
    tables = {arm.name: _own(arm, asked) for arm in arms}
    first, rest = arms[0].name, [arm.name for arm in arms[1:]]
    return [
        Metric(
            name,
            {arm: statistics.mean(table[i]) for arm, table in tables.items()},
            {arm: statistics.unpaired(tables[arm][i], tables[first][i]) for arm in rest},
            {},
            {},
        )
        for i, name in enumerate(_metrics(asked))
    ]


def _own(arm: Arm, asked: Question) -> np.ndarray:
    """(metrics, runs, tasks) of an arm on the tasks that all of its runs share."""
    tasks, _ = shared(arm.runs)
    values = [_values(run, tasks, asked) for run in arm.runs]
    kept = [task for task in tasks if all(task in found for found in values)]
    if not kept:
        raise DataError(f"the runs of {arm.name} share no task, so they have no mean over seeds")
    return np.array([[[found[task][name] for task in kept] for found in values] for name in _metrics(asked)])


def _difference(arm: Arm, first: Arm, tables: Mapping[str, np.ndarray]) -> Interval:
    """Runs of two arms pair where both have the same cells, each once, as one seed in both."""
    order = {cell: i for i, cell in enumerate(first.cells)}
    alike = len(order) == len(first.cells) and sorted(arm.cells) == sorted(first.cells) and len(arm.runs) > 1
    other = tables[first.name][[order[cell] for cell in arm.cells]] if alike else tables[first.name]
    return statistics.difference(tables[arm.name], other, pair_runs=alike)


def _values(run: Run, tasks: Sequence[str], asked: Question) -> dict[str, dict[str, float]]:
    return statistics.per_task({t: run.tasks[t] for t in tasks}, asked.scores, asked.threshold, asked.ks)


def _metrics(asked: Question) -> list[str]:
    return [f"{kind}@{k}" for kind in ("avg", "pass") for k in asked.ks]


def _several(size: int) -> tuple[int, ...]:
    return (size,) if size > 1 else ()


def sampling(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """What of the sampling differs between the runs, by name."""
    found = [run.evaluated.get("sampling") or {} for run in runs]
    names = dict.fromkeys(name for one in found for name in one)
    return {n: [one.get(n) for one in found] for n in names if len({repr(one.get(n)) for one in found}) > 1}
