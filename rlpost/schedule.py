"""Schedules: a number as a function of the step, for any float knob, `weight` or `coef`.

`step` counts optimizer steps from 0; `progress` is the finished part of the run, 0 to 1. A schedule is a node of its
own, usually under `schedules`, that knobs name through an interpolation: `coef: ${schedules.mu}`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any


def schedule(function: Callable[..., float]) -> Callable[..., float]:
    """Mark a function as a schedule, so that `value` and `bind` evaluate it."""
    setattr(function, "is_schedule", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return function


@schedule
def constant(step: int, progress: float, *, value: float) -> float:
    """The same number throughout.

    Equation: f = value
    """
    return value


@schedule
def linear(step: int, progress: float, *, start: float, end: float, until: float = 1.0) -> float:
    """A straight line from `start` to `end`, reached at progress `until`, flat afterwards.

    Equation: f = start + (end - start) * min(progress / until, 1)
    Edge cases: `until` of 0 gives `end` at once.
    """
    return start + (end - start) * _part(progress, until)


@schedule
def cosine(step: int, progress: float, *, start: float, end: float, until: float = 1.0) -> float:
    """Half a cosine from `start` to `end`, reached at progress `until`, flat afterwards.

    Equation: f = end + (start - end) * (1 + cos(pi * min(progress / until, 1))) / 2
    Edge cases: `until` of 0 gives `end` at once.
    """
    return end + (start - end) * (1 + math.cos(math.pi * _part(progress, until))) / 2


@schedule
def exponential(step: int, progress: float, *, start: float, decay_steps: float) -> float:
    """An exponential decay from `start` towards 0, by a factor of e every `decay_steps` optimizer steps.

    Equation: f = start * exp(-step / decay_steps)
    Edge cases: `decay_steps` of 0 or less is an error.
    """
    if decay_steps <= 0:
        raise ValueError(f"an exponential decay needs decay_steps above 0, not {decay_steps}")
    return start * math.exp(-step / decay_steps)


@schedule
def steps(step: int, progress: float, *, values: Sequence[float], at: Sequence[int]) -> float:
    """A staircase: `values[i]` until the optimizer step `at[i]`, the last value afterwards.

    Equation: f = values[number of entries of `at` that are <= step]
    Edge cases: `values` has one entry more than `at`; anything else is an error.
    """
    if len(values) != len(at) + 1 or list(at) != sorted(at):
        raise ValueError(f"a staircase needs rising steps and one value more than steps; got values={values}, at={at}")
    return values[sum(edge <= step for edge in at)]


@schedule
def one_minus(step: int, progress: float, *, of: Any) -> float:
    """What another schedule leaves of 1, for two terms that share a weight.

    Equation: f = 1 - of(step, progress)
    """
    return 1.0 - value(of, step, progress)


def is_schedule(knob: Any) -> bool:
    """True for a built schedule node."""
    return isinstance(knob, functools.partial) and getattr(knob.func, "is_schedule", False)


def value(knob: Any, step: int, progress: float) -> Any:
    """The number a knob has now: a schedule is evaluated, anything else is returned as it is."""
    return knob(step, progress) if is_schedule(knob) else knob


def bind(function: Any, step: int, progress: float) -> Any:
    """A built function with its scheduled knobs replaced by their numbers of now; itself where it has none."""
    if not isinstance(function, functools.partial) or not any(map(is_schedule, function.keywords.values())):
        return function
    knobs = {name: value(knob, step, progress) for name, knob in function.keywords.items()}
    return functools.partial(function.func, *function.args, **knobs)


def _part(progress: float, until: float) -> float:
    return 1.0 if until <= 0 else min(max(progress / until, 0.0), 1.0)
