"""`rlpost recipes` and `rlpost explain`: what there is and what it does, from recipes, signatures and docstrings."""

import json
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rlpost import catalogue
from rlpost.errors import ConfigError
from rlpost.nodes import RESERVED, ROLLOUT_RESERVED
from rlpost.source import signature
from rlpost.words import near

HIDDEN_AXES = ("recipe", "trainer", "launch", "logger", "debug", "pipeline")


def listing(axis: str | None, text: str | None, as_json: bool, folder: Path | None) -> str:
    """All recipes, or the options of `axis`, that contain `text`."""
    roots = _roots(folder)
    known = [name for name in catalogue.axes(roots) if name != "recipe"]
    if axis and axis not in known:
        raise ConfigError(f"unknown axis {axis!r}{near(axis, known)}; there are {', '.join(known)}")
    rows = [option(axis, n, p) for n, p in catalogue.options(axis, roots).items()] if axis else recipes(roots)
    if text:
        rows = [row for row in rows if text.lower() in json.dumps(row, ensure_ascii=False).lower()]
    if as_json:
        return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    if not rows:
        hint = f"rlpost recipes --axis {text}" if text in known else "rlpost recipes"
        return f"nothing contains {text!r}; {hint} lists everything\n" if text else "there is none\n"
    columns = ("name", "line", "reads", "paper") if axis else ("name", "command", "title", "paper")
    return _table(columns, rows) + ("" if axis else "rlpost explain <name> shows what a recipe claims and picks\n")


def recipes(roots: list[Path]) -> list[dict[str, Any]]:
    """Every recipe with its `about`, and the pipelines that have one: methods whose stages feed each other."""
    rows = []
    for name, path in catalogue.options("recipe", roots).items():
        about = (catalogue.read_yaml(path).get("about") or {}).get(name) or {}
        rows.append({"name": name, "command": ", ".join(catalogue.commands_of(path)), **about})
    for name, path in catalogue.options("pipeline", roots).items():
        about = catalogue.read_yaml(path).get("about")
        rows += [{"name": name, "command": f"run pipeline={name}", **about}] if about else []
    return sorted(rows, key=lambda row: row["name"])


def option(axis: str, name: str, path: Path, chosen: dict[str, Any] | None = None) -> dict[str, Any]:
    """One option: its function, what it reads, its knobs with default and value, and its docstring."""
    node = catalogue.read_yaml(path) if chosen is None else chosen
    row: dict[str, Any] = {"name": name, "axis": axis, "target": node.get("_target_")}
    if not row["target"]:
        inner = {key: value for key, value in node.items() if isinstance(value, dict) and "_target_" in value}
        return {
            **row,
            "line": _comment(path),
            "values": {key: value for key, value in node.items() if key != "defaults" and key not in inner},
            "parts": [
                option(f"{axis}.{name}.{key}", str(one["_target_"]).rpartition(".")[2], path, chosen=one)
                for key, one in inner.items()
            ],
        }
    sig = signature(str(row["target"]))
    reserved = RESERVED | (ROLLOUT_RESERVED if axis == "rollout" else frozenset())
    knobs = {
        key: {"type": knob.annotation, "default": None if knob.required else knob.default, "value": node.get(key)}
        for key, knob in sig.knobs.items()
    }
    return {
        **row,
        "line": sig.doc.line,
        "reads": ", ".join(sig.reads),
        "paper": sig.doc.sections.get("Paper", "").split("\n")[0],
        "knobs": knobs,
        "set": {k: v for k, v in node.items() if k in reserved - {"_target_"}},
        "sections": sig.doc.sections,
        "assumed": list(sig.doc.assumed),
    }


def explain(name: str, as_json: bool, folder: Path | None) -> str:
    """What a recipe or an option is, as text or JSON. Raises ConfigError with did-you-mean for an unknown name."""
    roots = _roots(folder)
    axis, equals, wanted = name.rpartition("=")
    places = {a: catalogue.options(a, roots) for a in catalogue.axes(roots)}
    if equals and axis not in places:
        raise ConfigError(f"unknown axis {axis!r}{near(axis, places)}; there are {', '.join(places)}")
    found = [(a, options[wanted]) for a, options in places.items() if wanted in options and axis in ("", a)]
    if not found:
        names = [n for a, options in places.items() if axis in ("", a) for n in options]
        raise ConfigError(f"unknown recipe or option {name!r}{near(wanted, names)}; rlpost recipes lists the recipes")
    found.sort(key=lambda place: ("recipe", "pipeline").index(place[0]) if place[0] in ("recipe", "pipeline") else 2)
    if not axis and found[0][0] in ("recipe", "pipeline"):
        found = found[:1]
    whole = {"recipe": recipe, "pipeline": pipeline}
    facts = [whole[a](wanted, p, roots) if a in whole else option(a, wanted, p) for a, p in found]
    if as_json:
        return json.dumps(facts[0] if len(facts) == 1 else facts, indent=1, ensure_ascii=False) + "\n"
    return "\n".join(_TEXTS.get(fact.get("kind", ""), _option_text)(fact) for fact in facts)


def recipe(name: str, path: Path, roots: list[Path]) -> dict[str, Any]:
    """A recipe: its `about`, the commands it is for, what it picks instead of the defaults, and each picked option."""
    data = catalogue.read_yaml(path)
    commands = catalogue.commands_of(path)
    defaults = catalogue.command_axes(commands[0]) if commands else {}
    picks = catalogue.defaults_of(data)
    parts = []
    for axis, value in picks.items():
        for one in value if isinstance(value, list) else [value]:
            place = catalogue.options(axis, roots).get(str(one))
            if place:
                parts.append(option(axis, str(one), place))
    return {
        "kind": "recipe",
        "name": name,
        "commands": commands,
        **((data.get("about") or {}).get(name) or {}),
        "picks": {axis: {"pick": value, "default": defaults.get(axis)} for axis, value in picks.items()},
        "sets": {k: v for k, v in data.items() if k not in ("defaults", "about")},
        "options": parts,
    }


def pipeline(name: str, path: Path, roots: list[Path]) -> dict[str, Any]:
    """A pipeline: its `about`, its stages in order, and each option that a stage builds its data or trains with."""
    data = catalogue.read_yaml(path)
    lines, picked = [], {}

    def walk(nodes: list[dict[str, Any]], depth: int) -> None:
        for node in nodes:
            rest = {key: value for key, value in node.items() if key not in ("name", "run", "stages")}
            said = ", ".join(f"{key}: {_short(value)}" for key, value in rest.items())
            head = f"{node.get('run') or 'group'} {node.get('name')}"
            lines.append("  " * depth + f"{head:24} {said}".rstrip())
            picks = [text.partition("=") for text in node.get("with") or [] if isinstance(node.get("with"), list)]
            picked.update({(axis.rpartition("@")[0] or axis, option): None for axis, _, option in picks})
            picked.update({("build", node["data"]["build"]): None} if node.get("data") else {})
            walk(node.get("stages") or [], depth + 1)

    walk(data.get("stages") or [], 0)
    found = [(axis, option, catalogue.options(axis, roots).get(option)) for axis, option in picked]
    mathematics = [one for one in found if one[0] in ("build", "preference", "sft_loss", "objective") and one[2]]
    return {
        "kind": "pipeline",
        "name": name,
        "commands": ["run"],
        **(data.get("about") or {}),
        "line": _comment(path),
        "stages": lines,
        "options": [option(axis, pick, place) for axis, pick, place in mathematics if place],
    }


def _pipeline_text(fact: dict[str, Any]) -> str:
    lines = [f"{fact['name']}: {fact.get('title') or fact['line']}"]
    lines += [f"  {key:8} {fact[key]}" for key in ("paper", "claim", "assumed") if fact.get(key)]
    lines += [f"  {'run':8} rlpost run pipeline={fact['name']}", "", *(f"  {line}" for line in fact["stages"])]
    return "\n".join(lines) + "\n\n" + "\n".join(_option_text(part) for part in fact["options"])


def _recipe_text(fact: dict[str, Any]) -> str:
    lines = [f"{fact['name']}: {fact.get('title', '')}"]
    lines += [f"  {key:8} {fact[key]}" for key in ("paper", "claim", "assumed") if fact.get(key)]
    lines += [f"  {'run':8} rlpost {command} recipe={fact['name']}" for command in fact["commands"]]
    lines.append("")
    for axis, pick in fact["picks"].items():
        same = pick["pick"] == pick["default"]
        lines.append(
            f"  {axis}={_short(pick['pick'])}" + (" (the default)" if same else f", not {_short(pick['default'])}")
        )
    lines += [f"  sets {key}: {value}" for key, value in fact["sets"].items()]
    return "\n".join(lines) + "\n\n" + "\n".join(_option_text(part) for part in fact["options"])


def _option_text(fact: dict[str, Any]) -> str:
    lines = [f"{fact['axis']}={fact['name']}  {fact.get('line', '')}"]
    if not fact["target"]:
        lines += [f"  {key}: {value}" for key, value in fact["values"].items()]
        return "\n".join(lines) + "\n" + "".join("\n" + _option_text(part) for part in fact["parts"])
    lines.append(f"  function  {fact['target']}")
    lines += [f"  reads     {fact['reads']}"] if fact["reads"] else []
    for name, knob in fact["knobs"].items():
        changed = "" if knob["default"] in (None, knob["value"]) else f" (signature: {knob['default']})"
        lines.append(f"  knob      {name}: {knob['type']} = {knob['value']}{changed}")
    lines += [f"  set       {name}: {value}" for name, value in fact["set"].items()]
    for title, body in fact["sections"].items():
        lines += [f"  {title}", *(f"    {line}" for line in body.splitlines())]
    return "\n".join(lines) + "\n"


_TEXTS = {"recipe": _recipe_text, "pipeline": _pipeline_text}


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_short(one)}" for key, one in value.items())
    return "nothing" if value in (None, []) else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _comment(path: Path) -> str:
    """The first comment of a file that is not its package header."""
    lines = [line.lstrip("# ") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return next((line for line in lines if not line.startswith("@package")), "")


def _roots(folder: Path | None) -> list[Path]:
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--config-dir {folder} is no folder")
    return [catalogue.recipes_dir(), *([folder] if folder else [])]


def _table(columns: Iterable[str], rows: list[dict[str, Any]]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*(str(row.get(column) or "") for column in columns))
    out = StringIO()
    width = Console().width
    Console(file=out, width=max(width, 60), highlight=False).print(table)
    return out.getvalue()
