"""Tables over the stages of a pipeline: mean and standard error over seeds, and paired differences between arms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

DEFAULT = [{"title": "Stages", "columns": {"objective": "objective", "minutes": "minutes"}, "rows": None}]


class Stage(Protocol):
    """The part of a pipeline's stage that a table needs."""

    @property
    def path(self) -> tuple[str, ...]: ...
    @property
    def name(self) -> str: ...
    @property
    def verb(self) -> str: ...
    @property
    def cell(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def label(self) -> str: ...


Results = Mapping[tuple[str, ...], Mapping[str, Any]]


def lookup(result: Mapping[str, Any], path: str) -> float | None:
    """The number at a dotted path of a result; an interval counts with its mean. None where there is no number."""
    value: Any = result
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        value = value.get("mean")
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def faults(tables: Any, names: Sequence[str]) -> list[str]:
    """Faults of `table:` of a pipeline, a list of {title, columns: {label: path}, rows: {label: stage}}.

    A row names a stage, which means all its runs, or `stage@2`, its runs in the second round of its loop.
    """
    if tables is None:
        return []
    if not isinstance(tables, list):
        return [f"pipeline.table must be a list of {{title, columns, rows}}, not {tables!r}"]
    found = []
    for index, table in enumerate(tables):
        where = f"pipeline.table.{index}"
        if not isinstance(table, Mapping) or set(table) != {"title", "columns", "rows"}:
            found.append(f"{where} must have title, columns and rows: {table!r}")
            continue
        if not all(isinstance(table[key], Mapping) and table[key] for key in ("columns", "rows")):
            found.append(f"{where}: columns maps labels to paths in a result, rows maps labels to stages")
            continue
        for label, row in table["rows"].items():
            pair = row if isinstance(row, list) else [row]
            if len(pair) not in (1, 2):
                found.append(f"{where}.rows.{label} must be a stage, or [stage, stage] for their difference: {row!r}")
            found += [f"{where}.rows.{label}: there is no stage {name!r}" for name in pair if _base(name) not in names]
    return found


def _base(name: Any) -> Any:
    return name.partition("@")[0] if isinstance(name, str) else name


def build(tables: Any, stages: Sequence[Stage], results: Results) -> dict[str, Any]:
    """What `summary.json` holds: the tables, and one entry per stage that has run or will run."""
    listed = tables or [{**table, "rows": {stage.name: stage.name for stage in stages}} for table in DEFAULT]
    return {
        "tables": [_table(table, stages, results) for table in listed],
        "stages": [_entry(stage, results) for stage in stages],
    }


def _entry(stage: Stage, results: Results) -> dict[str, Any]:
    result = results.get(stage.path)
    return {
        "name": stage.label,
        "run": stage.verb,
        "status": "ok" if result is not None else "waiting",
        "minutes": (result or {}).get("minutes"),
        "report": f"{stage.label}/report.html" if result is not None else None,
        "cell": dict(stage.cell),
        "result": result,
    }


def _table(table: Mapping[str, Any], stages: Sequence[Stage], results: Results) -> dict[str, Any]:
    rows, counts = [], set()
    for label, row in table["rows"].items():
        names = row if isinstance(row, list) else [row]
        cells = []
        for path in table["columns"].values():
            values = [_values(name, path, stages, results) for name in names]
            sample = list(values[0].values()) if len(values) == 1 else _differences(*values)
            counts.add(len(sample))
            cells.append(mean_and_error(sample))
        rows.append([label, *cells])
    several = max(counts, default=0)
    note = f"Mean ± standard error over up to {several} runs." if several > 1 else ""
    return {"title": table["title"], "columns": ["", *table["columns"]], "rows": rows, "note": note}


def _values(name: str, path: str, stages: Sequence[Stage], results: Results) -> dict[tuple, float]:
    """The value of every run of a stage, by the cell of the matrix that it belongs to; `name@2` is its second round."""
    found = {}
    base, _, number = name.partition("@")
    for stage in stages:
        rounds = [value for axis, value in stage.cell if axis.endswith(" round")]
        wanted = stage.name == base and (not number or rounds[-1:] == [number])
        value = lookup(results[stage.path], path) if wanted and stage.path in results else None
        if value is not None:
            found[stage.cell] = value
    return found


def _differences(first: Mapping[tuple, float], second: Mapping[tuple, float]) -> list[float]:
    """First minus second, cell by cell, so that what a seed does to both arms cancels.

    A stage that ran once, before the matrix (`before`), pairs with every cell.
    """
    if list(second) == [()]:
        return [value - second[()] for value in first.values()]
    return [value - second[cell] for cell, value in first.items() if cell in second]


def mean_and_error(values: Sequence[float]) -> str:
    """`mean ± standard error`, only the value where there is one, a dash where there is none."""
    if not values:
        return "–"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{mean:.3f} ± {math.sqrt(variance / len(values)):.3f}"
