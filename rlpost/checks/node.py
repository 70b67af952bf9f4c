"""One node of a configuration against the signature it names: knobs, reserved keys, fields read."""

import ast
import functools
from dataclasses import dataclass
from typing import Any

from rlpost.checks.annotation import allows_float, wrong
from rlpost.nodes import RESERVED, ROLLOUT_RESERVED
from rlpost.source import Signature, TargetMissing, signature, source_of
from rlpost.words import near

MISSING = "???"
STEP = ("models", "rng", "step", "progress")
RECORDS = {
    "shaping": ("Scored",),
    "keep": ("Scored",),
    "advantage": ("Scored",),
    "aggregate": ("TokenBatch",),
    "token_weight": ("TokenBatch", "Scored"),
    "objective": ("TokenBatch",),
    "regularizer": ("TokenBatch",),
    "sft_loss": ("TokenBatch",),
    "preference": ("PairBatch",),
    "reward_model": ("ScoreBatch",),
}
EXTRA = {"aggregate": ("counts",)}
ROLLOUT_TYPES = {
    "num_generations": "int",
    "max_tokens": "int",
    "temperature": "float",
    "top_p": "float",
    "top_k": "int",
    "max_draws": "int",
    "engine": "str",
}
AT_LEAST = {"num_generations": 1, "max_tokens": 1, "temperature": 0, "top_p": 0, "top_k": 0, "max_draws": 1}
# What demonstrations hold, in `rlpost sft` and in auxiliary streams; other fields of a TokenBatch belong to rollouts.
SFT_FIELDS = ("tokens", "mask", "logp", "entropy", "ref_logp", "ref_divergence", "group", "length", "weight")


@dataclass(frozen=True)
class Place:
    """Where a node stands: its dotted path, its axis and the command; `demonstrations`: it reads no rollouts."""

    path: str
    axis: str
    command: str
    demonstrations: bool = False


def node_faults(node: Any, place: Place) -> list[str]:
    """Every fault of one node that names a function or class in `_target_`."""
    path = place.path
    if not isinstance(node, dict) or "_target_" not in node:
        return [f"{path} is {_short(node)}; pick an option, {place.axis}=<name>, or name a function in {path}._target_"]
    target = node["_target_"]
    if not isinstance(target, str) or target == MISSING:
        return [f"{path}._target_ must be the dotted path of a function, not {target!r}"]
    try:
        sig = signature(target)
    except TargetMissing as error:
        return [f"{path}._target_={target}: {error}"]
    except (OSError, SyntaxError) as error:
        return [f"{path}._target_={target}: its source cannot be read ({error})"]
    reserved = RESERVED | (ROLLOUT_RESERVED if place.axis == "rollout" else frozenset())
    found = []
    for key, value in node.items():
        if isinstance(value, str) and value == MISSING:
            found.append(f"{path}.{key} has no default: set {path}.{key}=<value>")
        elif key in sig.knobs:
            found += _knob_faults(key, value, sig, place)
        elif key in reserved:
            found += _reserved_faults(key, value, sig, place)
        elif not sig.open:
            found.append(_unknown(key, sig, place, reserved))
    for name, knob in sig.knobs.items():
        if knob.required and name not in node and not sig.open:
            found.append(f"{path}.{name} is missing: {_name(sig)} has no default for it")
    return found + field_faults(sig, place)


def _unknown(key: str, sig: Signature, place: Place, reserved: frozenset[str]) -> str:
    knobs = [*sig.knobs, *(sorted(ROLLOUT_RESERVED - set(sig.knobs)) if place.axis == "rollout" else [])]
    takes = f"{_name(sig)} takes {', '.join(knobs)}" if knobs else f"{_name(sig)} has no knobs"
    return f"unknown key '{place.path}.{key}'{near(key, [*knobs, *sorted(reserved - {'_target_'})])}; {takes}"


def _knob_faults(key: str, value: Any, sig: Signature, place: Place) -> list[str]:
    knob = sig.knobs[key]
    path = f"{place.path}.{key}"
    if isinstance(value, dict) and "_target_" in value:
        if _is_schedule(value) and not allows_float(knob.annotation, sig.aliases):
            return [f"{path} is a schedule, but {_name(sig)} wants {knob.annotation} there, which does not change"]
        return node_faults(value, Place(path, "schedules", place.command))
    why = wrong(value, knob.annotation, sig.aliases) if knob.annotation else None
    default = "" if knob.required else f" (default {knob.default!r})"
    return [f"{path}: {why}{default}"] if why else []


def _is_schedule(node: dict[str, Any]) -> bool:
    try:
        return signature(str(node["_target_"])).reads == ("step", "progress")
    except TargetMissing:
        return False


def _reserved_faults(key: str, value: Any, sig: Signature, place: Place) -> list[str]:
    path = f"{place.path}.{key}"
    if key in ("weight", "coef"):
        if isinstance(value, dict):
            return node_faults(value, Place(path, "schedules", place.command))
        why = wrong(value, "float")
    elif key == "when":
        why = wrong(value, "dict[str, Any] | None")
    elif key == "aggregate":
        return [] if value is None else node_faults(value, Place(path, "aggregate", place.command))
    elif key == "renormalise":
        why = wrong(value, "bool")
    elif key == "time_limit":
        return [] if value is None else _limit_faults(value, sig, place)
    elif key in ROLLOUT_TYPES:
        why = wrong(value, ROLLOUT_TYPES[key])
        if not why and key in AT_LEAST and value < AT_LEAST[key]:
            why = f"must be at least {AT_LEAST[key]}, not {value}"
        if not why and key == "top_p" and not 0 < value <= 1:
            why = f"must lie in (0, 1], not {value}"
    else:
        return []
    return [f"{path}: {why}"] if why else []


def _limit_faults(value: Any, sig: Signature, place: Place) -> list[str]:
    """A time limit puts a reward into a process of its own, which has neither models nor the state of the run."""
    path = f"{place.path}.time_limit"
    if place.axis != "reward":
        return [f"{path}: only a reward has a time limit; watchdog.<phase> limits a phase"]
    why = wrong(value, "float") or (None if value > 0 else f"must be above 0 seconds, not {value}")
    shared = [name for name in sig.reads if name in STEP]
    if shared:
        return [
            f"{path}: {_name(sig)} reads {', '.join(shared)}, which a process of its own cannot see; set it to null"
        ]
    return [f"{path}: {why}"] if why else []


def field_faults(sig: Signature, place: Place) -> list[str]:
    """Fields that the function reads and nothing provides."""
    records = RECORDS.get(place.axis)
    if records is None:
        return []
    known = {name for record in records for name in fields_of(record)} | set(EXTRA.get(place.axis, ())) | set(STEP)
    supervised = place.command == "sft" or place.demonstrations
    provided = set(SFT_FIELDS) | set(EXTRA.get(place.axis, ())) if supervised else known
    giver = "a stream of demonstrations" if place.demonstrations else f"`rlpost {place.command}`"
    reader, other = f"{place.path}: {_name(sig)}", f"pick another {place.axis}"
    found = []
    for name in sig.reads:
        if name not in known:
            legal = ", ".join(sorted(known - set(STEP)))
            hint = near(name, known) or f"; the fields are {legal}"
            found.append(f"{reader} reads {name!r}, which is no field of {' or '.join(records)}{hint}")
        elif name not in provided:
            found.append(f"{reader} reads {name!r}, which {giver} does not provide; {other}")
    return found


@functools.cache
def fields_of(record: str) -> tuple[str, ...]:
    """Names of the fields of a record of types.py, from source."""
    tree = ast.parse(source_of("rlpost.types").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == record:
            typed = [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
            return tuple(target.id for target in typed if isinstance(target, ast.Name))
    raise LookupError(f"types.py has no record {record}")


def _name(sig: Signature) -> str:
    return sig.target.rpartition(".")[2]


def _short(value: Any) -> str:
    return "empty" if value in (None, {}) else repr(value)[:60]
