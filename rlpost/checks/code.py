"""Code that a configuration names and nobody allowed: refused before anything of it is imported."""

from collections.abc import Mapping
from typing import Any

from rlpost import allow
from rlpost.errors import ConfigError
from rlpost.source import TargetMissing, signature

# Functions of rlpost that import what a knob names.
LOADS = {"rlpost.reward.external.trl": "path", "rlpost.environment.tools.Tools": "path"}
RUNS_PROGRAMS = "rlpost.reward.code"
ADAPTER = "peft"
NO_FOREIGN_CODE = (
    "code that comes with a model or a dataset is never run, and no key changes that; take a model that transformers "
    "has itself, or write a function of your own that loads it and allow that"
)


def code_faults(tree: Mapping[str, Any]) -> list[str]:
    """Targets, functions and classes outside of rlpost, and waived promises of the sandbox, that nobody allowed."""
    found = [allow.MISPLACED] if allow.KEY in tree else []
    for path, target in allow.targets(tree):
        found += _adapter_faults(path, target) if path == f"{ADAPTER}._target_" else _target_faults(path, target)
    return found + _node_faults(tree, "")


def missing_targets(tree: Mapping[str, Any]) -> list[str]:
    """Targets that no source defines, also in nodes that only their function looks into, such as parts of a mixture."""
    found = []
    for path, target in allow.targets(tree):
        try:
            if allow.permits(target):
                signature(target)
        except TargetMissing as error:
            found.append(f"{path}={target}: {error}")
        except (OSError, SyntaxError):
            continue  # the check of the node says so
    return found


def _adapter_faults(path: str, target: str) -> list[str]:
    """The kind of adapter is looked up in peft and nowhere else."""
    package, _, name = target.rpartition(".")
    if package == ADAPTER and name.endswith("Config") and name.isidentifier():
        return []
    return [f"{path}={target} is no configuration of an adapter; write {path}=peft.LoraConfig"]


def _target_faults(path: str, target: str) -> list[str]:
    if target == "???":
        return []
    try:
        allow.require(target, path)
        home = signature(target).target
    except ConfigError as error:
        return error.faults
    except (TargetMissing, OSError, SyntaxError):
        return []  # the check of the node says so
    if home != target and not allow.permits(home):
        return [f"{path}={target} only passes on {home}: " + allow.refusal(home, "_target_")]
    return []


def _node_faults(node: Any, path: str) -> list[str]:
    if isinstance(node, list | tuple):
        return [fault for place, one in enumerate(node) for fault in _node_faults(one, f"{path}[{place}]")]
    if not isinstance(node, Mapping):
        return []
    found = [f"{path}.trust_remote_code: {NO_FOREIGN_CODE}".lstrip(".")] if "trust_remote_code" in node else []
    target = str(node.get("_target_"))
    named = node.get(LOADS[target]) if target in LOADS else None
    if isinstance(named, str) and named != "???" and not allow.permits(named):
        found.append(allow.refusal(named, f"{path}.{LOADS[target]}"))
    waived = node.get("allow")
    if target.startswith(f"{RUNS_PROGRAMS}.") and isinstance(waived, list | tuple):
        found += [_waived(path, str(word)) for word in waived if f"{allow.SANDBOX}.{word}" not in allow.allowed()]
    return found + [
        fault for key, one in node.items() for fault in _node_faults(one, f"{path}.{key}".removeprefix("."))
    ]


def _waived(path: str, word: str) -> str:
    return (
        f"{path}.allow waives {word!r}, a promise of the sandbox, and stands in a file: type {path}.allow=[{word}] on "
        f"the command line, or add {allow.KEY}=[{allow.SANDBOX}.{word}]"
    )
