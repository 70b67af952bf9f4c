"""avg@k and pass@k per task, and bootstrap intervals of their difference between two arms on the same tasks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlpost.errors import ConfigError, DataError
from rlpost.run.tables import Interval

RESAMPLES = 10_000
LEVEL = 0.95


def counted(record: Mapping[str, Any], scores: Sequence[str]) -> list[float]:
    """The score of each completion of a task: the first of `scores` that applies; completions without one left out."""
    columns = [record["scores"][name] for name in scores if name in record["scores"]]
    found = (next((value for value in row if value is not None), None) for row in zip(*columns, strict=True))
    return [float(value) for value in found if value is not None]


def avg_at_k(values: Sequence[float], k: int) -> float:
    """Mean score of the first k completions of a task."""
    return math.fsum(values[:k]) / k


def pass_at_k(values: Sequence[float], k: int, threshold: float) -> float:
    """Chance that one of k completions is right, without bias from all n: 1 - C(n - c, k) / C(n, k).

    Paper: Evaluating Large Language Models Trained on Code, arXiv 2107.03374, eq. 1.
    """
    wrong = sum(value < threshold for value in values)
    return 1.0 - math.comb(wrong, k) / math.comb(len(values), k)


def per_task(
    tasks: Mapping[str, Mapping[str, Any]], scores: Sequence[str], threshold: float, ks: Sequence[int]
) -> dict[str, dict[str, float]]:
    """`{avg@k, pass@k}` of each task for each k. Raises ConfigError for a k that a task has too few completions for."""
    values = {task: counted(record, scores) for task, record in tasks.items()}
    values = {task: found for task, found in values.items() if found}
    short = min(values.values(), key=len, default=[])
    if values and max(ks) > len(short):
        raise ConfigError(f"--k {max(ks)} is more than the {len(short)} scored completions that a task has")
    named = {}
    for task, found in values.items():
        rows = {f"avg@{k}": avg_at_k(found, k) for k in ks}
        named[task] = rows | {f"pass@{k}": pass_at_k(found, k, threshold) for k in ks}
    return named


def fewest(tasks: Mapping[str, Mapping[str, Any]], scores: Sequence[str]) -> int:
    """Scored completions of the task that has fewest; tasks without any are left out, and 0 means that all are."""
    sizes = [len(counted(record, scores)) for record in tasks.values()]
    return min((size for size in sizes if size), default=0)


def mean(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of (runs, tasks) with its interval: tasks are resampled, and runs where there are several.

    Edge cases: one task or one run is never varied, so an interval over it says nothing of how others would do.
    """
    return difference(values, np.zeros((1, values.shape[1])), pair_runs=False, seed=seed)


def difference(
    first: np.ndarray, second: np.ndarray, *, pair_runs: bool, n: int = RESAMPLES, seed: int = 0
) -> Interval:
    """`first - second`, both (runs, tasks) on the same tasks, with the percentile bootstrap's 95% interval.

    Each resample draws tasks with replacement, the same for both arms, so that their difficulty cancels; and runs of
    each arm, the same for both where `pair_runs` says that row i of both belongs together (one seed).

    Reduces to: the paired bootstrap over tasks where both arms are one run.

    Raises DataError where there is no task.
    """
    if not first.shape[1]:
        raise DataError("there is no task to resample")
    rng = np.random.default_rng(seed)
    size = first.shape[1]
    chunk = max(1, 2_000_000 // size)  # bounds the memory for large test sets
    draws = []
    for start in range(0, n, chunk):
        count = min(chunk, n - start)
        tasks = _drawn(rng, count, size)
        mine = _drawn(rng, count, len(first))
        other = mine if pair_runs else _drawn(rng, count, len(second))
        draws.append(np.einsum("bt,bt->b", mine @ first - other @ second, tasks))
    low, high = np.quantile(np.concatenate(draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(first.mean() - second.mean()), float(low), float(high), size)


def unpaired(first: np.ndarray, second: np.ndarray, *, n: int = RESAMPLES, seed: int = 0) -> Interval:
    """`first - second` of (runs, tasks) on tasks that have nothing in common: each side is drawn on its own."""
    one, two = np.random.default_rng(seed).spawn(2)
    draws = [_means(values, rng, n) for values, rng in ((first, one), (second, two))]
    low, high = np.quantile(draws[0] - draws[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(first.mean() - second.mean()), float(low), float(high), first.shape[1] + second.shape[1])


def _means(values: np.ndarray, rng: np.random.Generator, n: int) -> np.ndarray:
    runs, tasks = values.shape
    chunk = max(1, 2_000_000 // tasks)
    sizes = [min(chunk, n - start) for start in range(0, n, chunk)]
    return np.concatenate(
        [np.einsum("bt,bt->b", _drawn(rng, size, runs) @ values, _drawn(rng, size, tasks)) for size in sizes]
    )


def _drawn(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, size) weights: how often each of `size` things is drawn in `size` draws, as shares."""
    return rng.multinomial(size, np.full(size, 1 / size), size=count) / size
