"""Where each value of a configuration came from, and which option each axis has."""

from pathlib import Path
from typing import Any

from rlpost import catalogue


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a tree by dotted key; an empty dictionary is a leaf."""
    if isinstance(tree, dict) and tree:
        return {
            k: v
            for key, value in tree.items()
            for k, v in flatten(value, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: tree} if prefix else {}


def origins(files: list[Any], command: str, roots: list[Path]) -> dict[str, str]:
    """Which file set each leaf: later files win, as in the composition."""
    origin: dict[str, str] = {}
    for default in files:
        path = next(
            (r / f"{default.config_path}.yaml" for r in roots if (r / f"{default.config_path}.yaml").is_file()), None
        )
        if path is None:
            continue
        data = {k: v for k, v in catalogue.read_yaml(path).items() if k != "defaults"}
        prefix = default.package or ""
        if prefix == "debug":
            prefix, data = "", data.get(command) or {}
        name = f"recipes/{default.config_path}.yaml" if path.is_relative_to(roots[0]) else str(path)
        origin.update(dict.fromkeys(flatten(data, prefix), name))
    return origin


def nearest_origin(key: str, origin: dict[str, str]) -> str:
    """Origin of a leaf that came in below a key, such as through an interpolation."""
    while "." in key:
        key = key.rpartition(".")[0]
        if key in origin:
            return origin[key]
    return "composed"


def picks_of(files: list[Any]) -> dict[str, list[str]]:
    picks: dict[str, list[str]] = {}
    for default in files:
        axis, _, name = str(default.config_path).partition("/")
        if name:
            picks.setdefault(axis, []).append(name)
    return picks
