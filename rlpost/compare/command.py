"""`rlpost compare`: read the runs, compare them, and show it as a table, as JSON and as one page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from rlpost.compare import arms, compute, differences
from rlpost.compare.arms import Arm, Metric, Question
from rlpost.compare.compute import Reached
from rlpost.compare.differences import Row
from rlpost.compare.runs import Run, read
from rlpost.errors import ConfigError, DataError
from rlpost.run import files, tables

FEW = 30  # below as many tasks a percentile interval is too narrow to lean on


@dataclass
class Comparison:
    """Everything that is shown. `pairing` says on what the metrics were measured, in a sentence."""

    runs: list[Run]
    arms: list[Arm]
    asked: Question | None = None
    metrics: list[Metric] = field(default_factory=list)
    pairing: str = ""
    configuration: list[Row] = field(default_factory=list)
    code: list[Row] = field(default_factory=list)
    data: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tokens: int = 0
    reached: list[Reached] = field(default_factory=list)


def run(
    paths: Sequence[Path],
    *,
    at: str | None = None,
    ks: Sequence[int] = (),
    score: str | None = None,
    threshold: float | None = None,
    by: Sequence[str] = (),
    unpaired: bool = False,
    out: Path,
    as_json: bool = False,
) -> None:
    """Compare the runs; write the page to `out` and print a table, or JSON."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name the file of the page, such as {out / 'compare.html'}")
    found = compare(paths, at=at, ks=ks, score=score, threshold=threshold, by=by, unpaired=unpaired)
    from rlpost.compare import page

    out.parent.mkdir(parents=True, exist_ok=True)
    files.write(out, page.render(found))
    if as_json:
        print(json.dumps(files.plain({**plain(found), "page": str(out)}), indent=2, ensure_ascii=False))
        return
    console = Console()
    for part in drawn(found):
        console.print(part)
    for line in found.notes:
        print(f"note: {line}")
    print(f"\n  page  {out}", flush=True)


def compare(
    paths: Sequence[Path],
    *,
    at: str | None = None,
    ks: Sequence[int] = (),
    score: str | None = None,
    threshold: float | None = None,
    by: Sequence[str] = (),
    unpaired: bool = False,
) -> Comparison:
    """Compare run folders; the first arm is what the others are held against.

    Raises ConfigError for folders and options that do not fit, DataError where the runs share no task.
    """
    runs = read(paths, at)
    found = Comparison(runs, arms.grouped(runs, by))
    found.configuration, found.code, found.data = (
        part(runs) for part in (differences.configuration, differences.code, differences.data)
    )
    found.notes = differences.notes(runs)
    found.tokens, found.reached = compute.matched(runs)
    without = [run.name for run in runs if not run.tasks]
    if without:
        found.notes.append(
            f"{', '.join(without)} has no results per task{f' of {at}' if at else ''}, so that no metric is compared: "
            "rlpost eval writes them, and training with evaluation.tasks above 0."
        )
    elif len(found.arms) < 2:
        found.notes.append("With --by all runs are one arm: there is nothing to hold it against.")
    else:
        found.asked = arms.question(runs, score, threshold, ks)
        _measure(found, unpaired)
        found.notes += _measured_differently(runs)
    return found


def _measure(found: Comparison, unpaired: bool) -> None:
    tasks, changed = arms.shared(found.runs)
    if found.asked is None:
        return
    if changed:
        found.notes.append(
            f"{len(changed)} tasks share an id but not their prompt, media and answer, such as {changed[0]}: no pairs."
        )
    if unpaired:
        found.metrics = arms.apart(found.arms, found.asked)
        found.pairing = "Unpaired: each arm on its own tasks; their difficulty does not cancel, and intervals are wide."
        return
    if not tasks:
        whose = "; ".join(f"{run.name} has {len(run.tasks)}, such as {next(iter(run.tasks))}" for run in found.runs)
        whose = f"all {len(changed)} ids in common ask something else, such as {changed[0]}" if changed else whose
        raise DataError(
            f"the runs share no task ({whose}), so that no difference can be paired; evaluate them on the same tasks, "
            "or compare unpaired means with --unpaired"
        )
    found.metrics = arms.paired(found.arms, tasks, found.asked)
    count = found.metrics[0].arms[found.arms[0].name].n
    most = max(len(run.tasks) for run in found.runs)
    found.pairing = f"Paired by task, on {count} tasks" + (f" of {most}." if count < most else " that all runs share.")
    if count < FEW:
        found.notes.append(f"{count} tasks are few: the intervals are narrower than they should be.")


def _measured_differently(runs: Sequence[Run]) -> list[str]:
    sampling = [f"{name} {', '.join(map(str, values))}" for name, values in arms.sampling(runs).items()]
    found = [f"The runs were not sampled alike: {'; '.join(sampling)}."] if sampling else []
    if len({run.when for run in runs}) > 1:
        found.append("Compared are " + ", ".join(f"{run.name} ({run.when})" for run in runs) + ".")
    return found


def result_rows(found: Comparison) -> tuple[list[str], list[list[Any]]]:
    """The table of metrics, one row per arm: its mean, what it has more than the first arm, on how many tasks."""
    columns = ["metric", "arm", "mean", f"minus {found.arms[0].name}", "more/less"]
    rows: list[list[Any]] = []
    for metric in found.metrics:
        for arm, bounds in metric.arms.items():
            counts = f"{metric.more[arm]}/{metric.less[arm]}" if arm in metric.more else ""
            rows.append([metric.name, arm, bounds, metric.differences.get(arm, ""), counts])
    return columns, rows


def reached_rows(found: Comparison) -> tuple[list[str], list[list[Any]]]:
    """The table of matched compute."""
    metrics = list(dict.fromkeys(name for one in found.reached for name in one.metrics))
    columns = ["run", "steps", "tokens", "step there", "seconds", *metrics]
    rows = [
        [r.run, r.steps, r.tokens, r.at_step, r.at_seconds, *(r.metrics.get(m) for m in metrics)] for r in found.reached
    ]
    return columns, rows


def drawn(found: Comparison) -> list[Any]:
    """The tables for the terminal; runs are columns where that is short, and nothing equal is listed."""
    parts: list[Any] = []
    if found.metrics:
        columns, rows = result_rows(found)
        parts.append(tables.table(f"{found.pairing} 95% intervals.", columns, rows))
    if found.reached:
        parts.append(tables.table(f"Matched compute: after {found.tokens} tokens", *reached_rows(found)))
    for title, rows in (("Configuration", found.configuration), ("Code", found.code), ("Data", found.data)):
        if rows:
            cells = [[row.key, *row.values] for row in rows]
            parts.append(tables.table(f"{title}: what differs", ["key", *(run.name for run in found.runs)], cells))
        else:
            parts.append(f"{title}: no difference\n")
    return parts


def plain(found: Comparison) -> dict[str, Any]:
    """What `--json` prints; an interval is a mapping of mean, low, high and n."""
    return {
        "runs": [{"name": run.name, "path": str(run.path), "verb": run.verb, "when": run.when} for run in found.runs],
        "arms": [{"name": arm.name, "runs": [run.name for run in arm.runs]} for arm in found.arms],
        "pairing": found.pairing,
        "metrics": [
            {
                "name": metric.name,
                "arms": {arm: bounds._asdict() for arm, bounds in metric.arms.items()},
                "differences": {arm: bounds._asdict() for arm, bounds in metric.differences.items()},
                "tasks_more": metric.more,
                "tasks_less": metric.less,
            }
            for metric in found.metrics
        ],
        "matched_compute": {"tokens": found.tokens, "runs": [one._asdict() for one in found.reached]},
        **{name: _listed(getattr(found, name), found.runs) for name in ("configuration", "code", "data")},
        "notes": found.notes,
    }


def _listed(rows: Sequence[Row], runs: Sequence[Run]) -> list[dict[str, Any]]:
    names = [run.name for run in runs]
    return [
        {
            "key": row.key,
            "values": dict(zip(names, row.values, strict=True)),
            "origins": dict(zip(names, row.origins, strict=True)),
        }
        for row in rows
    ]
