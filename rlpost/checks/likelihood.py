"""A likelihood that draws from seeds (masks, for models that read both ways) against what it cannot serve."""

from collections.abc import Mapping
from typing import Any

from rlpost.source import TargetMissing, signature

MANY = ("shaping", "keep", "token_weight", "regularizer")


def likelihood_faults(command: str, tree: Mapping[str, Any]) -> list[str]:
    """Every part of the configuration that asks a drawing likelihood for what only a left-to-right one has."""
    node = tree.get("likelihood")
    if not isinstance(node, dict) or "seeded" not in _of(node, "decorators"):
        return []
    name = f"likelihood={str(node['_target_']).rpartition('.')[2]}"
    if command != "grpo":
        return [f"{name} draws masks from seeds that only rollouts of `rlpost grpo` carry; set likelihood=causal"]
    found = [
        f"aux.{stream}: {name} draws masks from the seeds of rollouts, which demonstrations lack; leave the stream out"
        for stream in tree.get("aux") or {}
    ]
    if (tree.get("rollout") or {}).get("engine") == "vllm":
        found.append(
            f"rollout.engine=vllm writes left to right, which {name} cannot score; set rollout.engine=transformers"
        )
    if (tree.get("kernels") or {}).get("prefix") in ("on", True):
        found.append(f"kernels.prefix=on packs rows for left-to-right models, but {name} reads both ways; set auto")
    for path, one in _plugins(tree).items():
        fields = set(_of(one, "reads"))
        if "gen_logp" in fields and fields & {"logp", "old_logp", "ref_logp"}:
            found.append(
                f"{path} compares 'gen_logp' with what {name} says, but they are log-probabilities in different "
                "contexts; leave it out"
            )
        if "teacher_logp" in fields:
            found.append(
                f"{path} reads 'teacher_logp', which a teacher gives left to right and {name} does not; leave it out"
            )
    for weight, one in (tree.get("token_weight") or {}).items():
        if isinstance(one, dict) and one.get("renormalise"):
            found.append(
                f"token_weight.{weight}.renormalise takes tokens out of the rows, which {name} would then show "
                f"instead of mask; set token_weight.{weight}.renormalise=false"
            )
    return found


def _plugins(tree: Mapping[str, Any]) -> dict[str, Any]:
    nodes = {axis: tree.get(axis) for axis in ("advantage", "objective", "aggregate")}
    for axis in MANY:
        nodes |= {f"{axis}.{name}": node for name, node in (tree.get(axis) or {}).items()}
    return {path: node for path, node in nodes.items() if isinstance(node, dict)}


def _of(node: Mapping[str, Any], what: str) -> tuple[str, ...]:
    try:
        return getattr(signature(str(node.get("_target_"))), what)
    except TargetMissing:
        return ()
