"""The page of a comparison: one file that asks nobody for anything, in the look of a run's report."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from rlpost.compare import command, compute
from rlpost.run import report, tables

if TYPE_CHECKING:
    from rlpost.compare.command import Comparison


def render(found: "Comparison") -> str:
    """The page as text."""
    main, more = compute.charts(found.runs)
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    page.filters.update(number=tables.number)
    return page.get_template("page.html.j2").render(
        style=Markup(style()),
        title=" · ".join(arm.name for arm in found.arms),
        runs=[_run(run) for run in found.runs],
        cards=_cards(found),
        pairing=found.pairing,
        results=dict(zip(("columns", "rows"), command.result_rows(found), strict=True)) if found.metrics else None,
        reached=dict(zip(("columns", "rows"), command.reached_rows(found), strict=True)) if found.reached else None,
        tokens=found.tokens,
        charts=[{"title": chart.title, "svg": Markup(chart.svg)} for chart in main],
        more=[{"title": chart.title, "svg": Markup(chart.svg)} for chart in more],
        names=[run.name for run in found.runs],
        parts=[("Configuration", found.configuration), ("Code", found.code), ("Data", found.data)],
        notes=found.notes,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def style() -> str:
    """The style sheet of a run's report, which stands in its template."""
    text = (Path(report.__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    found = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    return found[1] if found else ""


def _cards(found: "Comparison") -> list[dict[str, Any]]:
    """The difference of each later arm in the first and the last metric."""
    ends = list(dict.fromkeys(metric.name for metric in [*found.metrics[:1], *found.metrics[-1:]]))
    first = found.arms[0].name
    return [
        {
            "label": f"{metric.name}: {arm} − {first}",
            "value": tables.number(bounds.mean),
            "note": f"95% interval [{tables.number(bounds.low)}, {tables.number(bounds.high)}]",
            "sign": "good" if bounds.low > 0 else "bad" if bounds.high < 0 else "",
        }
        for metric in found.metrics
        if metric.name in ends
        for arm, bounds in metric.differences.items()
    ]


def _run(run: Any) -> dict[str, Any]:
    git = run.environment.get("git") or {}
    commit = f"{git.get('commit', '')[:10]}{' + changes' if git.get('dirty') else ''}" or "–"
    trained = run.environment.get("trained_on") or {}
    return {
        "name": run.name,
        "verb": run.verb,
        "when": run.when or "–",
        "seed": run.config.get("seed"),
        "commit": commit,
        "trained": trained.get("fingerprint", "–"),
        "tasks": len(run.tasks),
        "folder": str(run.path),
    }
