"""Curves of several runs over steps and over tokens, and what each run had reached after as many tokens."""

import re
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rlpost.compare.runs import Run
from rlpost.run import curves
from rlpost.run.curves import Chart, Curve

LAST = 5  # records that a value at a point is the mean of: one step's reward is noise


class Reached(NamedTuple):
    """What a run had reached when it had as many tokens as the run that has fewest: step, seconds, means of metrics."""

    run: str
    steps: int
    tokens: int
    at_step: int
    at_seconds: float | None
    metrics: dict[str, float]


def charts(runs: Sequence[Run]) -> tuple[list[Chart], list[Chart]]:
    """Every metric that two runs share, one line per run: the main ones over steps and over tokens, the rest apart."""
    found = {run.name: {curve.name: curve for curve in curves.collect(_train(run))} for run in runs}
    counts: dict[str, int] = {}
    for metrics in found.values():
        for name, curve in metrics.items():
            counts[name] = counts.get(name, 0) + (len(curve.steps) > 1)
    both = [name for name, count in counts.items() if count > 1]
    main = sorted((name for name in both if _panel(name) is not None), key=lambda name: _panel(name) or 0)
    drawn, rest = [], []
    for name in main:
        lines = [found[run.name][name]._replace(name=run.name) for run in runs if name in found[run.name]]
        drawn.append(Chart(f"{name} over steps", curves.draw(lines)))
        over = [_over_tokens(run, found[run.name][name]) for run in runs if run.tokens and name in found[run.name]]
        if len(over) > 1:
            drawn.append(Chart(f"{name} over tokens", curves.draw(over)))
    for name in both:
        if name not in main:
            lines = [found[run.name][name]._replace(name=run.name) for run in runs if name in found[run.name]]
            rest.append(Chart(f"{name} over steps", curves.draw(lines)))
    return drawn, rest


def matched(runs: Sequence[Run]) -> tuple[int, list[Reached]]:
    """The tokens of the run that has fewest, and what each run had reached with that many; empty without tokens."""
    if not all(run.tokens for run in runs):
        return 0, []
    least = min(max(run.tokens.values()) for run in runs)
    return least, [_reached(run, least) for run in runs]


def _reached(run: Run, tokens: int) -> Reached:
    step = max((step for step, total in run.tokens.items() if total <= tokens), default=0)
    before = [record for record in _train(run) if record.get("step") is not None and record["step"] <= step]
    metrics: dict[str, float] = {}
    for name in ("reward", "loss"):
        values = [record[name] for record in before if _number(record.get(name))]
        if values:
            metrics[name] = fmean(values[-LAST:])
    seconds = max((record["time"] for record in before if _number(record.get("time"))), default=None)
    return Reached(run.name, max(run.tokens), max(run.tokens.values()), step, seconds, metrics)


def _over_tokens(run: Run, curve: Curve) -> Curve:
    points = [(run.tokens[int(s)], v) for s, v in zip(curve.steps, curve.values, strict=True) if int(s) in run.tokens]
    return Curve(run.name, [float(x) for x, _ in points], [y for _, y in points])


def _train(run: Run) -> list[Any]:
    return [record for record in run.metrics if record.get("phase", "train") == "train"]


def _panel(name: str) -> int | None:
    """The place of the panel of a report that a metric belongs to; seconds and speed are not for tokens."""
    wanted = enumerate(pattern for _, pattern in curves.PANELS if not pattern.startswith(("time", "tok/s")))
    return next((place for place, pattern in wanted if re.fullmatch(pattern, name)), None)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
