"""Which models a run must hold, and which function asks for each: read from signatures, nothing is imported."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlpost.source import TargetMissing, signature

REFERENCE = ("ref_logp", "ref_divergence", "ref_chosen_logp", "ref_rejected_logp")
TEACHER = ("teacher_logp", "teacher_divergence")
CRITIC = ("value", "returns")
# Axes whose functions read no field of a run.
APART = ("model", "dataset", "peft", "models", "trainer", "launch", "logger", "pipeline", "run", "evaluation")
ELSEWHERE = {"Server": "on a server", "StandIn": "no model: a stand-in whose answers mean nothing"}


@dataclass(frozen=True)
class Need:
    """A model of the run. `because`: what names it. `node`: its option, None where it copies the policy."""

    role: str
    kind: str
    because: tuple[str, ...]
    node: Mapping[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """For tables and JSON."""
        return {"role": self.role, "model": self.kind, "asked for by": list(self.because)}


def needed(command: str, tree: Mapping[str, Any]) -> list[Need]:
    """The policy first, then what the signatures of the picked functions name."""
    found = [Need("policy", _named(tree.get("model")), (f"`rlpost {command}` trains it",), tree.get("model"))]
    readers = list(_readers(tree))
    if by := _asking(readers, REFERENCE):
        found.append(Need("reference", _reference(tree), by))
    roles = tree.get("models") or {}
    if by := _asking(readers, TEACHER):
        found.append(Need("teacher", _named(roles.get("teacher")), by, roles.get("teacher")))
    for role, by in _scorers(tree).items():
        found.append(Need(role, _named(roles.get(role)), by, roles.get(role)))
    if by := _asking(readers, CRITIC):
        found.append(Need("critic", f"{_last(tree.get('critic'))}: the policy's trunk and a head, which train", by))
    return found


def place(need: Need) -> str:
    """Where a second model's memory is: here, on a server, or nowhere."""
    return ELSEWHERE.get(_last(need.node), "in this process") if need.node else "in this process"


def moves(tree: Mapping[str, Any]) -> bool:
    """Whether the reference follows the policy, which needs a copy of its own."""
    return bool(tree.get("reference"))


def _reference(tree: Mapping[str, Any]) -> str:
    peft = tree.get("peft") or {}
    if "_target_" in peft:
        return "the policy with its adapter off: no weights of its own"
    return "a frozen copy of the policy" + (" that follows it" if moves(tree) else "")


def _readers(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(path, function, fields) of every node of the run's axes."""
    for axis, node in tree.items():
        if axis not in APART:
            for path, one in nodes(node, axis):
                yield path, _last(one), _reads(one)


def nodes(node: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a `_target_` in a tree, with its dotted path."""
    if not isinstance(node, Mapping):
        return
    if "_target_" in node:
        yield path, node
    for key, value in node.items():
        yield from nodes(value, f"{path}.{key}")


def _asking(readers: list[tuple[str, str, tuple[str, ...]]], fields: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        f"{path}: {name} reads {', '.join(field for field in fields if field in reads)}"
        for path, name, reads in readers
        if set(fields) & set(reads)
    )


def _scorers(tree: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, node in (tree.get("reward") or {}).items():
        if "models" in _reads(node):
            found.setdefault(str(node.get("role")), []).append(
                f"reward.{name}: {_last(node)} asks models.{node['role']}"
            )
    return {role: tuple(by) for role, by in found.items()}


def _reads(node: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return signature(str(node.get("_target_"))).reads
    except TargetMissing:
        return ()


def _last(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, Mapping) else ""


def _named(node: Any) -> str:
    """The option's function with what names its weights."""
    if not isinstance(node, Mapping):
        return "not configured"
    inner = node.get("model")
    if isinstance(inner, Mapping):
        return f"{_last(node)} of {_named(inner)}"
    which = node.get("path") or (inner if isinstance(inner, str) else None)
    return f"{_last(node)}({which})" if which else _last(node)
