"""Actions on a screen as a model writes them, and how well one agrees with an expert's."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rlpost import foreign

THINK = re.compile(r"<think>(.*?)</think>", re.DOTALL)
ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)
POINT = "coordinate"


def written(thought: str, action: Mapping[str, Any]) -> str:
    """A thought and an action in the form that is asked for."""
    return f"<think>{thought}</think>\n<action>{json.dumps(action)}</action>"


def thought(said: str) -> str:
    """What was thought; empty where nothing was."""
    found = THINK.search(said)
    return found.group(1).strip() if found else ""


def action(said: str) -> dict[str, Any] | None:
    """The action of an utterance, None where it has none that can be read."""
    found = ACTION.search(said)
    try:
        given = foreign.parsed(found.group(1)) if found else None
    except ValueError:
        return None
    return given if isinstance(given, dict) and isinstance(given.get("action"), str) else None


def agreement(said: str, step: Mapping[str, Any]) -> float:
    """1 for the expert's action, 0.5 for its type alone, 0.1 for another type, 0 for what is no action.

    A point agrees where it lies in the step's `box` [x1, y1, x2, y2], edges included; without a box it must be equal.
    Texts are compared without case and outer blanks.
    """
    given, wanted = action(said), step["action"]
    if given is None:
        return 0.0
    if given["action"] != wanted["action"]:
        return 0.1
    names = {*given, *wanted} - {"action"}
    return 1.0 if all(_same(name, given.get(name), wanted.get(name), step.get("box")) for name in names) else 0.5


def matches(said: str, step: Mapping[str, Any]) -> bool:
    """Whether an utterance does what the expert did."""
    return agreement(said, step) == 1.0


def _same(name: str, given: Any, wanted: Any, box: Any) -> bool:
    if name == POINT and box is not None:
        return _is_point(given) and box[0] <= given[0] <= box[2] and box[1] <= given[1] <= box[3]
    if isinstance(given, str) and isinstance(wanted, str):
        return given.strip().casefold() == wanted.strip().casefold()
    return bool(given == wanted)


def _is_point(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(type(x) in (int, float) for x in given)
