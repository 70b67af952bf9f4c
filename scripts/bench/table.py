"""The figures of bench.json as a table: coloured in the terminal, Markdown for the documentation."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

HEADER = ("goal", "what", "case", "ours", "theirs", "ratio", "target", "stretch", "error", "spread", "")
WIDTH = 140
Records = Mapping[str, Mapping[str, Any]]


def rows(records: Records) -> list[tuple[str, ...]]:
    """One row for each case of each goal, in words."""
    return [
        _row(name, record, case) for name, record in records.items() for case in record.get("cases", {}).values()
    ] + [
        (name, record["title"], "", *["-"] * 7, f"not measured: {record['reason']}")
        for name, record in records.items()
        if "reason" in record
    ]


def _row(name: str, record: Mapping[str, Any], case: Mapping[str, Any]) -> tuple[str, ...]:
    kind = record["kind"]
    unit = {"ratio": "{:.2f}x", "ms": "{:.0f} ms", "error": "{:.0e}", "mib": "{:.0f} MiB"}[kind]
    return (
        name,
        record["title"],
        case["name"],
        _shown(case["memory_mib"], "{:.0f} MiB") if kind == "mib" else _shown(case["ours_ms"], "{:.1f} ms"),
        _shown(case["theirs_ms"], "{:.1f} ms"),
        _shown(case["ratio"], "{:.2f}x"),
        unit.format(case["target"]),
        unit.format(case["stretch"]),
        _shown(case["max_error"], "{:.1e}"),
        _shown(case["spread"], "{:.2f}"),
        verdict(kind, case),
    )


def verdict(kind: str, case: Mapping[str, Any]) -> str:
    """How a case stands: its error first, then stretch and target."""
    error = case["max_error"]
    if error is None or not error <= case["bound"]:
        return f"WRONG: error above {case['bound']:.0e}"
    value = case["value"]
    if value is None:
        return "-"
    better = (lambda goal: value >= goal) if kind == "ratio" else (lambda goal: value <= goal)
    return "stretch" if better(case["stretch"]) else "met" if better(case["target"]) else "missed"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def show(records: Records) -> None:
    """Print the table, and beneath it what each goal is and how it was measured."""
    table = Table(*_short(HEADER))
    colours = {"stretch": "green", "met": "green", "missed": "yellow"}
    for row in rows(records):
        table.add_row(*_short(row[:-1]), f"[{colours.get(row[-1], 'red')}]{row[-1]}[/]")
    console = Console()
    # Figures that are cut to fit a narrow terminal would say nothing.
    console.width = max(console.width, WIDTH)
    console.print(table)
    for name, record in records.items():
        console.print(f"{name}: {record['title']}", highlight=False)
        for case in record.get("cases", {}).values():
            console.print(f"  {case['name']}: {case['note']}", style="dim", highlight=False)


def _short(row: tuple[str, ...]) -> list[str]:
    """Without the title."""
    return [row[0], *row[2:]]


def markdown(records: Records) -> str:
    """The table for docs/performance.md, without the titles, which stand there already."""
    names = [*_short(HEADER[:-1]), "verdict"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_short(row)) + " |" for row in rows(records)]
    return "\n".join(lines)
