"""A plan for people: tables by section, then warnings."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from rlpost.origin import flatten
from rlpost.plan.findings import Findings
from rlpost.run.redact import tree as redacted
from rlpost.run.tables import table


def configuration(tree: Mapping[str, Any], origin: Mapping[str, str], picks: Mapping[str, list[str]]) -> dict[str, Any]:
    """Every value with its origin, and whether it is a default: set by the command's file or the picked option's own.

    Secrets are hidden.
    """
    own = {
        f"recipes/{axis}/{name}.yaml"
        for axis, names in picks.items()
        if axis not in ("recipe", "debug")
        for name in names
    }
    rows = []
    for key, value in flatten(redacted(dict(tree))).items():
        source = origin.get(key, "")
        plain = source in own or source.count("/") == 1 or source == "composed" or key.startswith("about.")
        rows.append({"key": key, "value": value, "origin": source, "default": plain})
    return {"picks": {axis: names for axis, names in picks.items() if axis != "recipe"}, "values": rows}


def show(found: Findings, console: Console, *, everything: bool = False) -> None:
    """Print what was found, section by section."""
    for name, draw in SECTIONS.items():
        facts = found.facts.get(name)
        if facts is not None:
            for part in draw(facts, everything):
                console.print(part, markup=False, highlight=False)
    for sentence in found.warnings:
        console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)


def _configuration(facts: Mapping[str, Any], everything: bool) -> list[Any]:
    picks = " ".join(f"{axis}={','.join(names)}" for axis, names in facts["picks"].items() if names != ["none"])
    rows = [row for row in facts["values"] if everything or not row["default"]]
    title = "Every value and where it is from" if everything else "Values that are not an option's own default"
    values = table(title, ["key", "value", "from"], [[row["key"], repr(row["value"]), row["origin"]] for row in rows])
    return [f"picks: {picks}", *([values] if rows else [])]


def _batch(facts: Mapping[str, Any], _: bool) -> list[Any]:
    drawn = []
    if "arithmetic" in facts:
        rows = [
            [name, f"{value:g}" if isinstance(value, float) else str(value)]
            for name, value in facts["arithmetic"].items()
        ]
        drawn.append(table("Batch", ["", "number"], rows))
    if facts.get("nearest"):
        columns = ["key", "now", "nearest below", "nearest above"]
        drawn.append(
            table(
                "Values that give whole groups, each alone",
                columns,
                [[r[c] for c in columns] for r in facts["nearest"]],
            )
        )
    return drawn


def _models(facts: Sequence[Mapping[str, Any]], _: bool) -> list[Any]:
    rows = [[one["role"], one["model"], one["where"], "; ".join(one["asked for by"])] for one in facts]
    return [table("Models", ["role", "model", "where", "asked for by"], rows)]


def _tokens(facts: Mapping[str, Any], _: bool) -> list[Any]:
    rows = [
        [name, row["minimum"], row["median"], row["maximum"], row["limit"], percent(row["over"])]
        for name, row in facts["rows"].items()
    ]
    title = f"Tokens of {facts['samples']} of {facts['tasks']} tasks"
    return [table(title, ["of", "minimum", "median", "maximum", "limit", "over it"], rows)]


def _rewards(facts: Sequence[Mapping[str, Any]], _: bool) -> list[Any]:
    if not facts:
        return []
    rows = [
        [
            one["reward"],
            one["gold"],
            one["empty"],
            one["echo"],
            one["mutated"],
            one["not asked"] or f"gold {one['gold is written']}",
        ]
        for one in facts
    ]
    return [table("What rewards say (means)", ["reward", "gold", "empty text", "prompt again", "mutated", ""], rows)]


def _memory(facts: Mapping[str, Any], _: bool) -> list[Any]:
    from rlpost.plan.budget import gib

    rows = [[name, gib(size), _how(name, facts)] for name, size in facts["parts"].items()]
    ranks, device = facts["ranks in this memory"], facts["device"]
    rows.append(["peak of a rank (parts that are there together)", gib(facts["peak"]), "estimated"])
    if ranks > 1:
        rows.append([f"peak of {ranks} ranks in one memory", gib(ranks * facts["peak"]), "estimated"])
    how = "measured" if device["measured"] else "as asked for"
    rows.append([f"free of {gib(device['total'])} on {device['name']}", gib(device["free"]), how])
    fits = "it fits" if ranks * facts["peak"] <= device["free"] else "IT DOES NOT FIT"
    title = f"Memory of a rank: {fits} ({facts['trained parameters']:,} of {facts['parameters']:,} parameters train)"
    return [table(title, ["part", "size", ""], rows)]


def _how(part: str, facts: Mapping[str, Any]) -> str:
    if part == "libraries" and facts["device"]["kind"] == "cpu":
        return "measured"
    return "counted" if part in facts["exact"] else "estimated"


def _time(facts: Mapping[str, Any], _: bool) -> list[Any]:
    from rlpost.plan.budget import gib

    rows = [
        ["seconds per step", f"{facts['mean']:.2f} ± {facts['standard error']:.2f}"],
        ["steps", str(facts["steps"])],
        _whole(facts),
        ["peak memory, measured", gib(facts["peak"])],
        ["peak memory, estimated", gib(facts["estimated peak"])],
    ]
    return [table("Probe: real steps on the longest samples", ["", ""], rows)]


def _whole(facts: Mapping[str, Any]) -> list[str]:
    """How long the run takes, in hours or, below one, in minutes."""
    unit, times = ("hours", 1) if facts["hours"] >= 1 else ("minutes", 60)
    middle, low, high = (f"{times * facts[name]:.2f}" for name in ("hours", "hours low", "hours high"))
    return [f"{unit}, ± 2 standard errors", f"{middle} [{low}, {high}]"]


def _left_out(facts: Sequence[str], _: bool) -> list[Any]:
    return [f"does not apply: {sentence}" for sentence in facts]


def percent(share: float | None) -> str:
    """A share as a person reads it, nothing where there is no limit."""
    return "" if share is None else f"{share:.0%}" if share in (0, 1) or share >= 0.01 else "<1%"


SECTIONS = {
    "configuration": _configuration,
    "batch": _batch,
    "models": _models,
    "tokens": _tokens,
    "rewards": _rewards,
    "memory": _memory,
    "time": _time,
    "does not apply": _left_out,
}
