"""Tables for people, and the bootstrap intervals that go with every held-out number."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text


class Interval(NamedTuple):
    """A mean over `n` values with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float | None], level: float = 0.95, n: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean over independent values (one per task); None and NaN are left out.

    Edge cases: no value gives NaN throughout; equal values give a width of zero, however few there are.
    """
    sample = np.array([value for value in values if value is not None and not math.isnan(value)], dtype=float)
    if not len(sample):
        return Interval(math.nan, math.nan, math.nan, 0)
    rng = np.random.default_rng(seed)
    chunk = max(1, 2_000_000 // len(sample))  # bounds the memory for large test sets
    sizes = [min(chunk, n - start) for start in range(0, n, chunk)]
    means = np.concatenate([sample[rng.integers(len(sample), size=(size, len(sample)))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sample.mean()), float(low), float(high), len(sample))


def paired(
    before: Sequence[float | None],
    after: Sequence[float | None],
    level: float = 0.95,
    n: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of `after - before` on the same tasks: resamples tasks, so that their difficulty cancels."""
    if len(before) != len(after):
        raise ValueError(f"paired values must belong to the same tasks: {len(before)} before, {len(after)} after")
    pairs = zip(before, after, strict=True)
    return interval([None if a is None or b is None else a - b for b, a in pairs], level, n, seed)


def number(value: Any, digits: int = 3) -> str:
    """A value for a table cell: floats rounded, an interval as `mean [low, high]`, nothing as a dash."""
    bounds = _bounds(value)
    if bounds:
        return f"{number(bounds[0], digits)} [{number(bounds[1], digits)}, {number(bounds[2], digits)}]"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        small = value != 0 and abs(value) < 10**-digits
        return f"{value:.{digits}g}" if small or abs(value) >= 1e6 else f"{value:.{digits}f}"
    return str(value)


def _bounds(value: Any) -> tuple[Any, Any, Any] | None:
    if isinstance(value, Mapping) and {"mean", "low", "high"} <= set(value):
        return value["mean"], value["low"], value["high"]
    if isinstance(value, (list, tuple)) and len(value) in (3, 4) and all(_numeric(item) for item in value):
        return value[0], value[1], value[2]
    return None


def _numeric(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A rich table; numbers are right-aligned, everything else left."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        right = bool(cells) and all(_numeric(cell) or _bounds(cell) for cell in cells)
        drawn.add_column(column, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        drawn.add_row(*(_plain(number(cell)) for cell in row))
    return drawn


def final_rows(
    result: Mapping[str, Any], folder: str | Path | None = None, report: str | Path | None = None
) -> list[list[Any]]:
    """The rows of the table at the end of a run, from what the run returned. What it did not measure has no row.

    Reads `held_out: {metric, before, after, gain}` with intervals, `reward: {start, end}`, `loss: {start, end}`,
    `minutes`, and `table: {label: value}` for whatever else a verb wants shown.
    """
    rows: list[list[Any]] = []
    held = result.get("held_out") or {}
    name = f"held-out {held.get('metric', 'pass@1')}"
    for key, label in (("before", f"{name} before"), ("after", f"{name} after"), ("gain", f"{name} gained")):
        if held.get(key) is not None:
            rows.append([f"{label}, 95% interval" if _bounds(held[key]) else label, held[key]])
    for key in ("reward", "loss"):
        ends = result.get(key)
        if isinstance(ends, Mapping):
            rows += [[f"{key} at the {end}", ends[end]] for end in ("start", "end") if end in ends]
    rows += [[label, value] for label, value in (result.get("table") or {}).items()]
    if result.get("minutes") is not None:
        rows.append(["minutes", f"{result['minutes']:.1f}"])
    if folder:
        rows.append(["run folder", str(folder)])
    if report:
        rows.append(["report", str(report)])
    return rows


def final(
    title: str, result: Mapping[str, Any], folder: str | Path | None = None, report: str | Path | None = None
) -> Table:
    """The table that a run ends with."""
    drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for label, value in final_rows(result, folder, report):
        drawn.add_row(_plain(label), _plain(number(value)))
    return drawn


def _plain(text: str) -> Text:
    """rich reads `[...]` in a string as markup; an interval is no markup, whatever the console was told."""
    return Text(text)
