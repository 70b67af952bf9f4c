"""One auxiliary stream `aux.<name>`: `{loss, data, curriculum, aggregate, rows, max_length, coef}`."""

from typing import Any

from rlpost.checks.annotation import wrong
from rlpost.checks.node import Place, node_faults
from rlpost.words import near

# Keys that name a function, with its axis.
NODES = {
    "loss": "sft_loss",
    "data": "dataset",
    "curriculum": "curriculum",
    "aggregate": "aggregate",
    "coef": "schedules",
}
NUMBERS = {"rows": "int", "max_length": "int | None", "coef": "float"}
KEYS = list(dict.fromkeys([*NODES, *NUMBERS]))
REQUIRED = ("loss", "curriculum", "aggregate", "rows")


def stream_faults(name: str, node: Any, command: str) -> list[str]:
    """Every fault of a stream."""
    path = f"aux.{name}"
    if not isinstance(node, dict):
        return [f"{path} is {node!r}; a stream is a mapping with {', '.join(KEYS)}"]
    found = [
        f"unknown key '{path}.{key}'{near(key, KEYS) or '; a stream has ' + ', '.join(KEYS)}"
        for key in node
        if key not in KEYS
    ]
    found += [f"{path}.{key} is missing; a stream needs {', '.join(REQUIRED)}" for key in REQUIRED if key not in node]
    for key in (key for key in KEYS if key in node):
        value = node[key]
        if key in NUMBERS and not (key in NODES and isinstance(value, dict)):
            why = wrong(value, NUMBERS[key])
            if not why and key in ("rows", "max_length") and value is not None and value < 1:
                why = f"must be at least 1, not {value}"
            found += [f"{path}.{key}: {why}"] if why else []
        elif value is not None or key != "data":
            found += node_faults(value, Place(f"{path}.{key}", NODES[key], command, demonstrations=key == "loss"))
    return found
