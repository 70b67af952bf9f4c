"""Schedules: a number as a function of the step, for any float knob, `weight` or `coef`.

`step` counts optimizer steps from 0; `progress` is the finished part of the run, 0 to 1. A schedule is a node of its
own, usually under `schedules`, that knobs name through an interpolation: `coef: ${schedules.mu}`.

A schedule that remembers is a class with `observe(metrics)`, `values()` and a state; it stands under `schedules`, hears
of every step of `rlpost grpo`, and may set several knobs, each of which reads its number through `told`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from rlpost.errors import ConfigError
from rlpost.words import near


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
def warmup_cosine(step: int, progress: float, *, peak: float, valley: float, warmup: int, decay: int) -> float:
    """A straight line from 0 to `peak`, then half a cosine down to `valley`, flat afterwards; lengths in steps.

    Equation:
        f = peak * step / warmup                                                  step < warmup
        f = valley + (peak - valley) * (1 + cos(pi * (step - warmup) / decay)) / 2  step < warmup + decay
        f = valley                                                                afterwards

    Edge cases: `warmup` of 0 starts at `peak`; `decay` of 0 falls to `valley` at once.

    Paper: CHORD, arXiv 2508.11408: the weight mu of its expert data.
    """
    if step < warmup:
        return peak * step / warmup
    if step >= warmup + decay:
        return valley
    return valley + (peak - valley) * (1 + math.cos(math.pi * (step - warmup) / decay)) / 2


@schedule
def slope(step: int, progress: float, *, start: float, per_step: float, end: float) -> float:
    """A straight line that changes by `per_step` with each optimizer step until it reaches `end`.

    Equation: f = max(start + per_step * step, end) for a negative per_step, min(...) for a positive one

    Edge cases: `per_step` of 0 stays at `start`.

    Paper: KDRL, arXiv 2506.02208: its annealed coefficient.
    """
    now = start + per_step * step
    return max(now, end) if per_step < 0 else min(now, end) if per_step > 0 else start


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


@schedule
def told(step: int, progress: float, *, by: Any, of: str, times: float = 1.0) -> float:
    """What a schedule that remembers has set for one of the things that it weighs, times a number of this knob's own.

    Equation: f = times * by.values()[of]

    Edge cases: raises ConfigError for a name that `by` does not set.
    """
    found = by.values() if hasattr(by, "values") else {}
    if of not in found:
        hint = near(of, found) or f"; it sets {', '.join(found) or 'nothing'}"
        raise ConfigError(f"a knob is told of {of!r}, which {type(by).__name__} does not set{hint}")
    return times * found[of]


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
