"""`report.html`: one file with what a run measured, its curves, its completions and how to repeat it."""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from rlpost import signals
from rlpost.errors import ConfigError
from rlpost.run import curves, files, tables

ROWS = 480  # completions on the page: more make a browser slow, and nobody reads them
TEXT = 6000  # characters of one completion or prompt on the page


def write(folder_path: str | Path) -> Path:
    """Writes `report.html` into a run folder from the files in it, at any time during or after a run."""
    folder = Path(folder_path)
    if not (folder / "config.yaml").is_file() and not (folder / "summary.json").is_file():
        raise ConfigError(f"{folder} is not a run folder: it has neither config.yaml nor summary.json.")
    place = folder / "report.html"
    files.write(place, render(folder), lambda: f"`rlpost report {folder}` writes it from what is there.")
    return place


def render(folder: Path) -> str:
    """The page as text."""
    config = _config(folder)
    environment = files.read_json(folder / "environment.json") or {}
    outcome = files.read_json(folder / "done.json") or {"status": "running"}
    records = files.read_lines(folder / "metrics.jsonl")
    rollouts = files.read_lines(folder / "rollouts.jsonl")
    shown = choose(rollouts, ROWS)
    main, more = curves.charts(records)
    return _page().render(
        title=_title(folder, config, environment),
        facts=_facts(config, environment, records),
        about=[{"name": name, **entry} for name, entry in (config.get("about") or {}).items() if entry],
        outcome=outcome,
        highlights=highlights(outcome),
        results=[row for row in tables.final_rows(outcome, folder) if row[0] != "run folder"],
        charts=[{"title": chart.title, "svg": Markup(chart.svg)} for chart in main],
        more=[{"title": chart.title, "svg": Markup(chart.svg)} for chart in more],
        groups=groups(shown),
        columns=sorted({name for row in shown for name in row.get("scores") or {}}),
        counted={"shown": len(shown), "all": len(rollouts), "steps": len({row.get("step") for row in rollouts})},
        config_lines=_config_lines(folder),
        overrides=_lines(folder / "overrides.txt"),
        environment=_flat(environment),
        ledger=files.read_json(folder / "ledger.json") or [],
        findings=signals.diagnose(records),
        summary=files.read_json(folder / "summary.json") or {},
        folder=folder.resolve().name,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


@functools.cache
def _page() -> jinja2.Template:
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
    page.filters.update(number=tables.number, tint=tint)
    return page.get_template("report.html.j2")


def choose(rollouts: Sequence[Mapping], limit: int) -> list[Mapping]:
    """At most `limit` rows as whole groups, from steps spread evenly over the run, first and last included."""
    by_step: dict[Any, dict[Any, list[Mapping]]] = defaultdict(lambda: defaultdict(list))
    for row in rollouts:
        by_step[row.get("step")][row.get("group")].append(row)
    if len(rollouts) <= limit:
        return [row for step in by_step.values() for group in step.values() for row in group]
    steps = list(by_step.values())
    largest = max(len(group) for step in steps for group in step.values())
    wanted = max(1, min(len(steps), limit // max(1, 2 * largest)))
    at = sorted({round(index * (len(steps) - 1) / max(1, wanted - 1)) for index in range(wanted)})
    chosen, left = [], limit
    for position, index in enumerate(at):
        share = left // (len(at) - position)
        taken: list[Mapping] = []
        for group in steps[index].values():
            if taken and len(taken) + len(group) > share:
                break
            taken += group
        chosen += taken
        left -= len(taken)
    return chosen


def groups(rows: Sequence[Mapping]) -> list[dict[str, Any]]:
    """Rows of one step and group together, with what the group shares and its mean and spread."""
    found: dict[tuple, list[Mapping]] = defaultdict(list)
    for row in rows:
        found[row.get("step"), row.get("group")].append(row)
    return [_group(step, members) for (step, _), members in found.items()]


def _group(step: Any, members: list[Mapping]) -> dict[str, Any]:
    rewards = [row["reward"] for row in members if row.get("reward") is not None]
    first = members[0]
    thumbnails = _thumbnails(first)
    return {
        "step": step,
        "task": first.get("task"),
        "prompt": _text(first.get("prompt")),
        "answer": _text(first.get("answer")),
        "thumbnails": thumbnails,
        "mean": fmean(rewards) if rewards else None,
        "spread": max(rewards) - min(rewards) if rewards else None,
        "rows": [_row(row, thumbnails) for row in members],
    }


def _row(row: Mapping, shared: list[str]) -> dict[str, Any]:
    own = _thumbnails(row)
    tokens = row.get("tokens")
    return {
        "row": row.get("row"),
        "role": row.get("role", "policy"),
        "text": _text(row.get("text")),
        "stop": row.get("stop"),
        "tokens": len(tokens) if isinstance(tokens, list) else tokens,
        "scores": {name: _mean(score) for name, score in (row.get("scores") or {}).items()},
        "reward": row.get("reward"),
        "advantage": _mean(row.get("advantage")),
        "thumbnails": own if own != shared else [],
    }


def _mean(value: Any) -> Any:
    """A number as it is, several (credit per token, scores per span) as their mean: it fits a cell."""
    if not isinstance(value, list):
        return value
    numbers = [one for one in value if one is not None]
    return fmean(numbers) if numbers else None


def _thumbnails(row: Mapping) -> list[str]:
    """Base64 JPEGs, from the record or its `info`; anything else than base64 is left out of the page."""
    listed = row.get("thumbnails") or (row.get("info") or {}).get("thumbnails") or []
    return [item for item in listed if isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9+/=]+", item)]


def tint(value: float | None) -> str:
    """Background of an advantage: one hue above zero, another below, stronger further away."""
    if not isinstance(value, (int, float)) or value == 0:
        return ""
    strength = round(min(abs(value), 2.0) / 2.0 * 45)
    return f"background: color-mix(in srgb, var(--{'good' if value > 0 else 'bad'}) {strength}%, transparent)"


def highlights(outcome: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of the head: before and after, with their interval."""
    found = []
    held = outcome.get("held_out") or {}
    if held.get("before") is not None and held.get("after") is not None:
        found.append({"label": f"held-out {held.get('metric', 'pass@1')}", **_ends(held["before"], held["after"])})
    for key in ("reward", "loss"):
        ends = outcome.get(key)
        if isinstance(ends, Mapping) and {"start", "end"} <= set(ends):
            found.append({"label": f"{key}, start to end", **_ends(ends["start"], ends["end"])})
    if outcome.get("minutes") is not None:
        found.append({"label": "minutes", "before": None, "after": f"{outcome['minutes']:.1f}", "note": ""})
    return found


def _ends(before: Any, after: Any) -> dict[str, str]:
    first, second = tables.number(before), tables.number(after)
    note = f"95% interval {first.partition(' ')[2]} to {second.partition(' ')[2]}" if " [" in second else ""
    return {"before": first.partition(" ")[0], "after": second.partition(" ")[0], "note": note}


def _config(folder: Path) -> dict[str, Any]:
    place = folder / "config.yaml"
    return (yaml.safe_load(place.read_text(encoding="utf-8")) or {}) if place.is_file() else {}


def _title(folder: Path, config: Mapping, environment: Mapping) -> str:
    recipes = (environment.get("picks") or {}).get("recipe") or list(config.get("about") or {})
    name = (config.get("run") or {}).get("name") or " + ".join(recipe for recipe in recipes if recipe)
    return " · ".join(filter(None, [environment.get("verb", "rlpost"), name or folder.resolve().name]))


def _facts(config: Mapping, environment: Mapping, records: Sequence[Mapping]) -> list[tuple[str, str]]:
    picks = environment.get("picks") or {}
    facts = [(axis, ", ".join(map(str, picks[axis]))) for axis in ("model", "dataset", "objective") if picks.get(axis)]
    steps = [record["step"] for record in records if record.get("step") is not None]
    if steps:
        facts.append(("steps", str(max(steps))))
    if config.get("seed") is not None:
        facts.append(("seed", str(config["seed"])))
    if environment.get("started"):
        facts.append(("started", environment["started"].replace("T", " ")))
    return facts


def _config_lines(folder: Path) -> list[tuple[str, str]]:
    """Each line of config.yaml as what it sets and where that came from."""
    split = (line.rpartition("  # ") for line in _lines(folder / "config.yaml") if not line.startswith("#"))
    return [(head or tail, tail if mark else "") for head, mark, tail in split]


def _lines(place: Path) -> list[str]:
    return place.read_text(encoding="utf-8").split("\n")[:-1] if place.is_file() else []


def _flat(tree: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return rows


def _text(value: Any) -> str:
    """Text of a prompt or completion: messages as `role: content`, cut where it gets too long for a page."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        value = "\n".join(f"{item.get('role', '')}: {_content(item.get('content'))}" for item in value)
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= TEXT else f"{shown[:TEXT]} … ({len(shown) - TEXT} more characters)"


def _content(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", f"<{part.get('type')}>")) for part in content if isinstance(part, Mapping))
    return str(content)
