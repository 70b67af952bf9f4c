"""The page of a test: one file that asks nobody for anything, in the look of a run's report."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from rlpost.compare.page import style
from rlpost.run import files, tables
from rlpost.workbench import show

if TYPE_CHECKING:
    from rlpost.workbench.look import Side, Test
    from rlpost.workbench.ranks import Histogram

PAGE, FACTS, SCORES = "reward_test.html", "reward_test.json", "scores.jsonl"
FLIPS = 20


def write(found: "Test", folder: Path) -> None:
    """Write the page, everything as JSON, and one line per text with its scores; an older test there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FACTS, show.plain(found, FLIPS))
    (folder / SCORES).unlink(missing_ok=True)
    files.append_lines(folder / SCORES, show.lines(found))
    files.write(folder / PAGE, render(found))


def render(found: "Test") -> str:
    """The page as text."""
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    page.filters.update(number=tables.number)
    probes = [one["probe"] for one in show.plain(found, 0)["probes"]]
    return page.get_template("page.html.j2").render(
        style=Markup(style()),
        source=found.source,
        names=[side.name for side in found.sides],
        sides=[_side(found, side) for side in found.sides],
        agreement=show.agreement_rows(found),
        same=found.same,
        flips=show.flips(found, FLIPS),
        findings=[one.sentence for one in found.findings],
        judged=found.judged,
        probes=dict(zip(("columns", "rows"), show.probe_rows(found), strict=True)) if found.values else None,
        examples=show.examples(found, probes),
        form=found.form,
        notes=found.notes,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def _side(found: "Test", side: "Side") -> dict[str, Any]:
    columns, rows = show.score_rows(found, side)
    return {
        "name": side.name,
        "columns": [name for name in columns if name != "histogram"],
        "rows": [[cell for name, cell in zip(columns, row, strict=True) if name != "histogram"] for row in rows],
        "charts": [{"title": name, "bars": _bars(one)} for name, one in found.histograms(side).items()],
        "missing": show.missing_rows(side),
        "latency": {"columns": show.LATENCY, "rows": show.latency_rows(side)},
    }


def _bars(one: "Histogram") -> list[dict[str, Any]]:
    """Bins as labels with a share of the largest, for bars that are plain HTML."""
    most = max(one.counts, default=0) or 1
    labels = (
        [tables.number(edge) for edge in one.edges]
        if one.exact
        else [f"{tables.number(a)} to {tables.number(b)}" for a, b in zip(one.edges, one.edges[1:], strict=False)]
    )
    return [
        {"label": label, "count": count, "share": round(100 * count / most, 1)}
        for label, count in zip(labels, one.counts, strict=True)
    ]
