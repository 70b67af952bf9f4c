"""A test for people, as tables and sentences, and as plain data for JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from rlpost.run import files, redact
from rlpost.run.tables import number, table
from rlpost.workbench import hacks, ranks
from rlpost.workbench.look import Side, Test, policy
from rlpost.workbench.ranks import Histogram

if TYPE_CHECKING:
    from rlpost.workbench.command import Options

WIDTH = 100  # of a text in the terminal
FEW = 3  # columns beside which a terminal still has room for words
NOTHING = "no hole found"
UNJUDGED = "gold has no score, so nothing was held against it: this says nothing about holes"


def tell(found: Test, options: "Options") -> None:
    """Print the test as tables, or as JSON."""
    if options.as_json:
        print(json.dumps(files.plain(plain(found, options.worst)), indent=1, ensure_ascii=False))
        return
    console = Console()
    for part in drawn(found, options):
        console.print(part, markup=not isinstance(part, str), highlight=False, soft_wrap=isinstance(part, str))
    if options.out is not None:
        print(f"\n  page  {options.out / 'reward_test.html'}", flush=True)


def drawn(found: Test, options: "Options") -> list[Any]:
    """The tables for the terminal, in the order in which they are read."""
    parts: list[Any] = [found.source]
    for side in found.sides:
        title = "Scores" if len(found.sides) == 1 else f"Scores of {side.name}"
        parts.append(table(title, *score_rows(found, side)))
    for side in found.sides:
        if rows := missing_rows(side):
            parts.append(
                table(_titled("Rows without a score", found, side), ["reward", "rows", "cause", "first"], rows)
            )
        if rows := latency_rows(side):
            parts.append(table(_titled("Latency, in milliseconds", found, side), LATENCY, rows))
    if found.agreement is not None:
        parts.append(table(f"{found.sides[0].name} against {found.sides[1].name}", ["", ""], agreement_rows(found)))
        if found.same:
            rows = [[one.reward, f"{one.equal} of {one.rows}", one.gap] for one in found.same]
            parts.append(table("Rewards of both", ["reward", "equal scores", "largest difference"], rows))
        parts += [text for flip in flips(found, options.worst) for text in flip_lines(found, flip)]
    if found.values:
        parts.append(table(f"Probes, gold written {found.form}", *probe_rows(found, narrow=True)))
        parts += [f"hole: {one.sentence}" for one in found.findings] or [NOTHING if found.judged else UNJUDGED]
    return [*parts, *(f"note: {note}" for note in found.notes)]


def _titled(title: str, found: Test, side: Side) -> str:
    return title if len(found.sides) == 1 else f"{title}: {side.name}"


def score_rows(found: Test, side: Side) -> tuple[list[str], list[list[Any]]]:
    """One row per column of a stack: weight, rows that have a score, mean, deviation, extremes, histogram."""
    columns = ["reward", "weight", "scored", "mean", "std", "least", "histogram", "most"]
    weights = dict(zip(side.scores.names, side.scores.weights, strict=True))
    histograms, rows = found.histograms(side), []
    for name, values in policy(found, side).items():
        there = values[~np.isnan(values)]
        if len(there):
            facts = [float(there.mean()), float(there.std()), float(there.min()), float(there.max())]
        else:
            facts = [math.nan] * 4
        drawing = ranks.bars(histograms[name].counts) if name in histograms else ""
        rows.append([name, weights.get(name), f"{len(there)} of {len(values)}", *facts[:3], drawing, facts[3]])
    return columns, rows


def missing_rows(side: Side) -> list[list[Any]]:
    """Rows without a score by reward and cause; what another stack was asked for stands there."""
    return [
        [name, count, cause, _short(asked.places.get(cause, ""), 60)]
        for name, asked in side.scores.asked.items()
        if name not in side.scores.taken
        for cause, count in asked.missing.items()
    ]


LATENCY = ["reward", "calls", "rows each", "first", "p50", "p99", "total", "per row"]


def latency_rows(side: Side) -> list[list[Any]]:
    """What asking each reward took; nothing for scores that were written down."""
    rows = []
    for name, asked in side.scores.asked.items():
        one = asked.latency()
        if one["calls"] and name not in side.scores.taken:
            times = [1000 * float(one[key] or 0.0) for key in ("first", "p50", "p99", "total", "per_completion")]
            rows.append([name, str(one["calls"]), number(one["per_call"], 1), *map(_ms, times)])
    return rows


def _ms(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def agreement_rows(found: Test) -> list[list[Any]]:
    """How two stacks order the same completions, in words."""
    one = found.agreement
    if one is None:
        return []
    first, second = (side.name for side in found.sides)

    def of(count: int, whole: int) -> str:
        return f"{count} of {whole}" + (f" ({count / whole:.1%})" if whole else "")

    return [
        ["pairs within groups", str(one.pairs)],
        ["rank flips: ordered the other way round", of(one.flipped, one.pairs)],
        ["ordered alike", of(one.alike, one.pairs)],
        [f"tied by {first} alone", of(one.tied_first, one.pairs)],
        [f"tied by {second} alone", of(one.tied_second, one.pairs)],
        ["tied by both", of(one.tied_both, one.pairs)],
        ["groups whose best completion changes", of(one.best_changes, one.groups)],
        [f"Spearman, mean over {one.correlated} groups", number(one.spearman)],
        ["Kendall tau-b, over the same", number(one.kendall)],
        [f"groups without signal under {first}", of(one.silent[0], one.groups)],
        [f"groups without signal under {second}", of(one.silent[1], one.groups)],
    ]


def flips(found: Test, n: int) -> list[dict[str, Any]]:
    """The n largest flips, one per group, with both texts and both totals."""
    if found.agreement is None:
        return []
    told = []
    for flip in found.agreement.flips[:n]:
        rows = {"up": flip.up, "down": flip.down}
        told.append(
            {
                "group": flip.group,
                "task": found.texts[flip.up].task.id,
                "size": flip.size,
                **{
                    name: {
                        "text": found.texts[row].text,
                        "probe": found.texts[row].probe,
                        "totals": {side.name: float(side.scores.total[row]) for side in found.sides},
                    }
                    for name, row in rows.items()
                },
            }
        )
    return told


def flip_lines(found: Test, flip: Mapping[str, Any]) -> list[str]:
    """A flip in the terminal: what the first stack prefers, then what the second does."""
    lines = [f"flip in task {flip['task']}, {flip['size']:.2f} standard deviations"]
    for name, side in zip(("up", "down"), found.sides, strict=True):
        one = flip[name]
        totals = ", ".join(f"{key} {number(value)}" for key, value in one["totals"].items())
        probe = f"{one['probe']}, " if one["probe"] else ""
        lines.append(f"  {side.name} prefers ({probe}{totals}): {_short(one['text'], WIDTH)!r}")
    return ["\n".join(lines)]


def probe_rows(found: Test, *, narrow: bool = False) -> tuple[list[str], list[list[Any]]]:
    """One row per probe: the mean of each column that applies to any, what it gets too much of, and what it is.

    `narrow` leaves out what it is where there are many columns.
    """
    told = hacks.table(found.values, found.findings)
    columns = [name for name in found.values if any(one["means"].get(name) is not None for one in told)]
    says = not narrow or len(columns) <= FEW
    rows = []
    for one in told:
        verdict = f"HOLE in {', '.join(one['holes'])}" if one["holes"] else ""
        means = [one["means"].get(column) for column in columns]
        rows.append([one["probe"], *means, verdict, *([one["says"]] if says else [])])
    return ["probe", *columns, "verdict", *(["what it is"] if says else [])], rows


def plain(found: Test, worst: int) -> dict[str, Any]:
    """Everything but the single texts, for JSON."""
    from rlpost.workbench.command import kept, plain_overrides

    sides = []
    for side in found.sides:
        columns, histograms = score_rows(found, side)[1], found.histograms(side)
        silent, groups = ranks.silence(*_of_policy(found, side))
        sides.append(
            {
                "name": side.name,
                "overrides": plain_overrides(side.cfg),
                **kept(side.cfg.tree),
                "columns": {
                    row[0]: {
                        **dict(zip(("weight", "scored", "mean", "std", "least"), row[1:6], strict=True)),
                        "most": row[7],
                        "histogram": _bins(histograms.get(row[0])),
                    }
                    for row in columns
                },
                "groups_without_signal": {"silent": silent, "groups": groups},
                "latency_s": {name: asked.latency() for name, asked in side.scores.asked.items()},
                "without_score": {name: asked.missing for name, asked in side.scores.asked.items() if asked.missing},
            }
        )
    return {
        "source": found.source,
        "stacks": sides,
        "agreement": found.agreement.plain() if found.agreement else None,
        "rewards_of_both": [vars(one) for one in found.same],
        "flips": flips(found, worst),
        "gold_written": found.form or None,
        "probes": hacks.table(found.values, found.findings),
        "findings": [one.plain() for one in found.findings],
        "notes": [redact.text(note) for note in found.notes],
    }


def _of_policy(found: Test, side: Side) -> tuple[list[str], np.ndarray]:
    own = [i for i, text in enumerate(found.texts) if text.role == "policy"]
    return [found.groups[i] for i in own], side.scores.total[own]


def _bins(one: Histogram | None) -> dict[str, Any] | None:
    return None if one is None else {"exact": one.exact, "edges": one.edges, "counts": one.counts}


def lines(found: Test) -> list[dict[str, Any]]:
    """One record per text: where it is from, the scores and the total of each stack."""
    return [
        {
            "task": text.task.id,
            "group": text.group,
            "probe": text.probe or None,
            "role": text.role,
            "text": text.text,
            "scores": {side.name: side.scores.rollouts[i].scores for side in found.sides},
            "total": {side.name: float(side.scores.total[i]) for side in found.sides},
        }
        for i, text in enumerate(found.texts)
    ]


def _short(text: str, width: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."


def examples(found: Test, probes: Sequence[str]) -> dict[str, str]:
    """The text of each of these probes on the first row that has it."""
    told: dict[str, str] = {}
    for text in found.texts:
        if text.probe in probes:
            told.setdefault(text.probe, text.text)
    return told
