"""Records of measurements, and the clock: runs take turns, the fastest of each counts, an error beside each ratio."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["ratio", "ms", "error", "mib"]
Run = Callable[[], Any]


class NotMeasured(Exception):
    """Why a goal has no figure, in a sentence."""


@dataclass(frozen=True)
class Case:
    """One measurement of a goal. Times are milliseconds, None where the case compares values only; memory is in MiB.

    `max_error` above `bound` fails the whole run: an answer that is wrong has no speed. `spread` is the slowest over
    the fastest repetition of either side; above 1.3 the machine was busy.
    """

    name: str
    max_error: float
    bound: float
    target: float
    stretch: float
    ours_ms: float | None = None
    theirs_ms: float | None = None
    spread: float | None = None
    note: str = ""
    memory_mib: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster than what it is held against."""
        return self.theirs_ms / self.ours_ms if self.ours_ms and self.theirs_ms else None

    @property
    def broken(self) -> bool:
        """Whether the error exceeds its bound; NaN does."""
        return not self.max_error <= self.bound


@dataclass(frozen=True)
class Goal:
    """A goal and how it is measured. `kind` says what is held against target and stretch.

    "ratio": theirs over ours, higher is better; "ms": our milliseconds, "error": the error and "mib": our memory, lower
    is better.
    """

    title: str
    kind: Kind
    measure: Callable[[int], list[Case]]

    def value(self, case: Case) -> float:
        """The figure that the target is about."""
        found = {"ratio": case.ratio, "ms": case.ours_ms, "error": case.max_error, "mib": case.memory_mib}[self.kind]
        return float("nan") if found is None else found

    def share(self, case: Case) -> float:
        """The figure over its target, turned so that 1 or more is met."""
        value = self.value(case)
        if self.kind == "ratio":
            return value / case.target
        return case.target / value if value else float("inf")

    def record(self, cases: list[Case]) -> dict[str, Any]:
        """The case that is furthest below its target, with all cases beside it."""
        worst = min(cases, key=self.share)
        every = {case.name: self._plain(case) for case in cases}
        top = self._plain(worst) | {"max_error": largest(*(case.max_error for case in cases)), "case": worst.name}
        return {"title": self.title, "kind": self.kind, **top, "met": self.share(worst) >= 1.0, "cases": every}

    def _plain(self, case: Case) -> dict[str, Any]:
        return {"ratio": case.ratio, **asdict(case), "value": self.value(case)}


def largest(*errors: float) -> float:
    """The largest error; NaN where one of them is, which `max` would lose."""
    return next((error for error in errors if error != error), max(errors))


@dataclass(frozen=True)
class Times:
    """The fastest repetition of each run in milliseconds, and the widest spread."""

    ms: Mapping[str, float]
    spread: float


def race(runs: Mapping[str, Run], repeats: int, clock: Callable[[], float] = time.process_time) -> Times:
    """Warm each run up, then let them take turns `repeats` times, on one thread; garbage is collected between."""
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            seconds[name].append(_timed(run, clock))
    spread = max(max(found) / min(found) for found in seconds.values())
    return Times({name: 1000 * min(found) for name, found in seconds.items()}, spread)


def fastest(runs: Mapping[str, Run], keep: int = 2) -> dict[str, Run]:
    """The `keep` fastest of several ways to do the same, by one warm run each: the candidates to be held against."""
    torch.set_num_threads(1)
    for run in runs.values():
        run()
    seconds = {name: _timed(run, time.process_time) for name, run in runs.items()}
    return {name: runs[name] for name in sorted(seconds, key=lambda name: seconds[name])[:keep]}


def _timed(run: Run, clock: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        run()
        return clock() - start
    finally:
        gc.enable()


def apart(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Largest difference over all tensors, relative to the largest entry of all; infinite where names differ."""
    if found.keys() != wanted.keys():
        return float("inf")
    scale = max(float(value.abs().max()) for value in wanted.values())
    worst = largest(*(float((found[name].double() - wanted[name].double()).abs().max()) for name in wanted))
    return worst / scale if scale else float("inf")


def gradients(model: Any) -> dict[str, Tensor]:
    """A copy of every parameter's gradient by name."""
    return {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}
