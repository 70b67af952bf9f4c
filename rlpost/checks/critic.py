"""A critic and what reads it: neither makes sense without the other."""

from collections.abc import Iterator, Mapping
from typing import Any

from rlpost import catalogue
from rlpost.source import TargetMissing, signature

AXES = ("advantage", "aggregate", "objective")
MANY = ("shaping", "keep", "token_weight", "regularizer")


def critic_faults(tree: Mapping[str, Any]) -> list[str]:
    """Functions that read a critic where there is none, and a critic that nothing could teach."""
    readers = {path: _name(node) for path, node in _nodes(tree) if {"value", "returns"} & set(_reads(node))}
    if not tree.get("critic"):
        options = ", ".join(catalogue.options("critic", [catalogue.recipes_dir()]))
        return [
            f"{path}: {name} reads 'value', but no critic is picked; set critic=<name>; there are {options}"
            for path, name in readers.items()
        ]
    found = []
    if "advantage" not in readers:
        found.append(
            f"critic: the advantage {_name(tree.get('advantage'))} does not read 'value', so nothing says what the "
            "critic should learn; set advantage=gae, or critic=null"
        )
    likelihood = _name(tree.get("likelihood"))
    if likelihood != "causal":
        found.append(f"critic: a value stands before a token, which likelihood={likelihood} does not; set critic=null")
    if tree.get("replay"):
        found.append("critic: replayed rows would teach it what an older one expected; set replay=null or critic=null")
    return found


def _nodes(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((axis, tree.get(axis)) for axis in AXES)
    for axis in MANY:
        yield from ((f"{axis}.{name}", node) for name, node in (tree.get(axis) or {}).items())


def _reads(node: Any) -> tuple[str, ...]:
    try:
        return signature(str(node.get("_target_"))).reads if isinstance(node, Mapping) else ()
    except TargetMissing:
        return ()


def _name(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else "null"
