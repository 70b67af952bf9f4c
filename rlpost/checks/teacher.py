"""Functions that read what a teacher says: that there is one, which can say it, of the distribution that is sampled."""

from collections.abc import Mapping
from typing import Any

from rlpost.source import TargetMissing, signature

FIELDS = ("teacher_logp", "teacher_divergence")


def teacher_faults(tree: Mapping[str, Any]) -> list[str]:
    """Readers without a teacher, of a teacher that cannot say it, or that speaks of another distribution."""
    nodes = {axis: tree.get(axis) for axis in ("advantage", "objective", "aggregate")}
    for axis in ("shaping", "keep", "token_weight", "regularizer"):
        nodes |= {f"{axis}.{name}": node for name, node in (tree.get(axis) or {}).items()}
    read = {path: _reads(node) for path, node in nodes.items()}
    readers = [(path, field) for path, fields in read.items() for field in FIELDS if field in fields]
    if not readers:
        return []
    path, field = readers[0]
    teacher = (tree.get("models") or {}).get("teacher")
    if not teacher:
        return [
            f"{path} reads {field!r}, but there is no teacher: scorer@models.teacher=own and "
            "models.teacher.model={_target_: rlpost.models.load.hub, path: <folder or name>}"
        ]
    found = []
    if (tree.get("rollout") or {}).get("temperature") != 1:
        found.append(f"{path} reads {field!r}, which is at temperature 1; set rollout.temperature=1.0")
    return found + _distribution_faults(tree, teacher, read)


def _distribution_faults(tree: Mapping[str, Any], teacher: Any, read: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A whole distribution comes from the logits of a model of this process, and a run has one divergence."""
    path = next((path for path, fields in read.items() if "teacher_divergence" in fields), None)
    if path is None:
        return []
    found = []
    if str(teacher.get("_target_")).rpartition(".")[2] != "Local":
        found.append(
            f"{path} reads 'teacher_divergence', for which the teacher must be one model of this process; set "
            "scorer@models.teacher=own, or read 'teacher_logp', as regularizer teacher_k2 does"
        )
    losses = [tree.get("sft_loss"), *((node or {}).get("loss") for node in (tree.get("aux") or {}).values())]
    if any("ref_divergence" in fields for fields in [*read.values(), *map(_reads, losses)]):
        found.append(
            f"{path} reads 'teacher_divergence' beside a reader of 'ref_divergence'; a run has one divergence, so hold "
            "the policy against one of them, or against the reference with regularizer kl_k3"
        )
    if str((tree.get("likelihood") or {}).get("_target_")).rpartition(".")[2] != "causal":
        found.append(f"{path} reads 'teacher_divergence', which is there for likelihood=causal only")
    return found


def _reads(node: Any) -> tuple[str, ...]:
    try:
        return signature(str(node.get("_target_"))).reads if isinstance(node, Mapping) else ()
    except TargetMissing:
        return ()
