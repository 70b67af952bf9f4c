"""Schedules that remember: they stand under `schedules` and are told of every step, by `rlpost grpo` alone."""

from collections.abc import Iterator
from typing import Any

from rlpost.source import TargetMissing, signature


def state_faults(tree: dict[str, Any], command: str) -> list[str]:
    """Schedules that remember where nobody tells them anything."""
    named = tree.get("schedules") or {}
    found = [
        f"schedules.{name} remembers how a run goes, which only `rlpost grpo` tells it; take another schedule"
        for name, node in named.items()
        if command != "grpo" and _kind(node) == "class"
    ]
    for path, node in _told({key: value for key, value in tree.items() if key != "schedules"}, ""):
        if _kind(node) == "class" and node not in named.values():
            found.append(
                f"{path} remembers how a run goes, so that all knobs must share it: name it, schedules.<name>=..., and "
                f"set {path}='${{schedules.<name>}}'"
            )
    return found


def _told(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """What the schedules in a tree are told by, with its place."""
    for key, value in node.items() if isinstance(node, dict) else ():
        place = f"{path}.{key}" if path else str(key)
        if key == "by" and isinstance(value, dict) and "of" in node:
            yield place, value
        yield from _told(value, place)


def _kind(node: Any) -> str:
    try:
        return signature(str(node["_target_"])).kind
    except (TargetMissing, TypeError, KeyError):
        return ""
