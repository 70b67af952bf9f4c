"""Memory of one rank by part. Weights, gradients and optimizer state are counted; the rest is estimated by formulas.

Exact are `weights`, `gradients`, `optimizer` and the weights of second models: sums over the tensors that the run
would hold, on the meta device. Estimates are `activations`, `logits` and `cache`; their functions state the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from rlpost.kernels.budget import CPU_BYTES, CUDA_SHARE

# Numbers per weight that an optimizer keeps, in the dtype of the weight; `sgd` is without momentum.
STATES = {
    "adamw_torch": 2, "adamw_torch_fused": 2, "adamw_apex_fused": 2, "adamw_anyprecision": 2, "sgd": 0, "adagrad": 1,
    "rmsprop": 1,
}  # fmt: skip
# Bytes per weight of those that keep other dtypes: 8-bit states, and float32 ones.
STATE_BYTES = {
    "adamw_bnb_8bit": 2, "adamw_8bit": 2, "paged_adamw_8bit": 2, "lion_8bit": 1, "paged_lion_8bit": 1,
    "paged_adamw_32bit": 8, "lion_32bit": 4, "paged_lion_32bit": 4,
}  # fmt: skip
DEFAULT_OPTIMIZER = "adamw_torch_fused"


@dataclass(frozen=True)
class Load:
    """What passes the model at once, per rank. Token counts are the most that the sampled tasks lead to.

    `tokens`: laid out in a training micro-batch; `rows`: its sequences; `trained`: tokens that are scored against the
    vocabulary; `patches`: visual patches in it; `drawn`: sequences that are generated together (0: none), with
    `drawn_prompts` different prompts, each of `prompt` and then `answer` tokens.
    """

    tokens: int
    rows: int
    trained: int
    patches: int = 0
    drawn: int = 0
    drawn_prompts: int = 0
    prompt: int = 0
    answer: int = 0


def weights(model: Any) -> int:
    """Bytes of all parameters, tied ones once, and of all buffers: sum of numel * itemsize."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


def trainable(model: Any) -> list[Parameter]:
    """Parameters that get a gradient, tied ones once."""
    return [p for p in model.parameters() if p.requires_grad]


def gradients(model: Any) -> int:
    """Bytes of one gradient per trainable parameter, in its dtype."""
    return sum(p.numel() * p.element_size() for p in trainable(model))


def optimizer(model: Any, name: str) -> int | None:
    """Bytes of the optimizer's state; None for an optimizer that is not known here.

    states * numel * itemsize (AdamW: 2), and 4 bytes per parameter tensor that counts steps. Adafactor keeps in float32
    a number per row and per column of a matrix, one per weight of a vector, and the scale of each tensor.
    """
    own = trainable(model)
    if name == "adafactor":
        return sum(4 * (1 + (_factors(p.shape) if p.dim() >= 2 else p.numel())) for p in own)
    if name in STATE_BYTES:
        return STATE_BYTES[name] * sum(p.numel() for p in own)
    if name not in STATES:
        return None
    steps = 4 * len(own) if STATES[name] else 0
    return STATES[name] * gradients(model) + steps


def _factors(shape: torch.Size) -> int:
    return shape.numel() // shape[-1] + shape.numel() // shape[-2]


def optimizer_name(tree: Mapping[str, Any]) -> str:
    """The optimizer that `trainer.optim` names, TRL's default otherwise."""
    return str((tree.get("trainer") or {}).get("optim") or DEFAULT_OPTIMIZER)


def block(width: int, inner: int, query: int, keyed: int, *, item: int, stream: int) -> int:
    """Bytes per token that a pre-norm block with a gated MLP keeps for its backward pass.

    Each of two norms: the residual stream that it reads, in float32 (4 * width), the normalised stream (stream * width)
    and what it gives to the projections (item * width). Attention: queries and keys after the rotation, values, and the
    output: item * (2 * query + 2 * keyed). MLP: gate, its activation, up and their product: item * 4 * inner.
    """
    return 2 * (4 + stream + item) * width + item * (2 * query + 2 * keyed + 4 * inner)


def activations(model: Any, load: Load, *, checkpointing: bool, autocast: bool) -> int:
    """Bytes that the forward pass of a micro-batch keeps, an estimate from the configuration.

    tokens * layers * block, and three states of the final norm; with checkpointing tokens * (layers * width * stream +
    block). `item` and `stream` are the bytes of a number in the projections and in the residual stream: those of the
    weights, but 2 and 4 where float32 weights run under autocast, which also keeps a copy of 2 bytes of each weight. A
    mixture counts the experts that a token passes. Vision: see `_vision`, per patch.
    """
    config, own = model.config.get_text_config(), _item(model)
    item = 2 if autocast else own
    one = block(config.hidden_size, _inner(config), *_attention(config), item=item, stream=own)
    total = load.tokens * (_stack(config.num_hidden_layers, one, config.hidden_size * own, checkpointing))
    total += load.tokens * 3 * config.hidden_size * own
    if load.patches and (vision := getattr(model.config, "vision_config", None)) is not None:
        total += load.patches * _vision(vision, item, own, checkpointing)
    copies = sum(p.numel() for p in model.parameters() if p.element_size() > 2) if autocast else 0
    return total + 2 * copies


def _vision(config: Any, item: int, stream: int, checkpointing: bool) -> int:
    """Bytes per patch: the pixels, `depth` blocks and the merger.

    A block's keys are as wide as its queries; its attention also keeps the joint projection that values are cut from
    and, in windows, the outputs laid end to end: 3 * width more. The merger keeps three states.
    """
    width = getattr(config, "embed_dim", None) or config.hidden_size
    inner = getattr(config, "intermediate_size", None) or int(width * getattr(config, "mlp_ratio", 4))
    channels = getattr(config, "in_channels", None) or getattr(config, "in_chans", 3)
    pixels = channels * config.temporal_patch_size * config.patch_size**2
    one = block(width, inner, width, width, item=item, stream=stream) + 3 * width * item
    return pixels * item + _stack(config.depth, one, width * stream, checkpointing) + 3 * width * item


def _stack(depth: int, one: int, state: int, checkpointing: bool) -> int:
    """Bytes per token of `depth` blocks: all of each, or the state before each and one block that is computed again."""
    return depth * state + one if checkpointing else depth * one


def _inner(config: Any) -> int:
    experts = getattr(config, "num_experts_per_tok", None)
    if experts:
        return experts * (getattr(config, "moe_intermediate_size", None) or config.intermediate_size)
    return config.intermediate_size


def _attention(config: Any) -> tuple[int, int]:
    """Widths of the queries of all heads and of the keys of all heads."""
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads * size, (getattr(config, "num_key_value_heads", None) or heads) * size


def logits(model: Any, load: Load, kind: str, free: int) -> int:
    """Bytes of logits that the kernels hold, an estimate: min(trained * V * itemsize, budget) and the states beside it.

    The budget is the kernels' own: 1 GiB on a CPU, a share of what is free on a GPU (`free`: beside the other parts).
    Items are float32 on a CPU and of the model's dtype on a GPU. Three (trained, D) tables in float32 hold states and
    their gradient. A model without a head over the vocabulary (a reward model) has none.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None or not load.trained:
        return 0
    item = _item(model) if kind == "cuda" else 4
    budget = int(CUDA_SHARE * max(0, free)) if kind == "cuda" else CPU_BYTES
    words, width = head.weight.shape
    return min(load.trained * words * item, budget) + 3 * load.trained * width * 4


def cache(model: Any, load: Load, *, engine: str) -> int:
    """Bytes that generation holds, an estimate: keys and values, and the logits of a token for every row.

    2 * layers * keyed * itemsize per token; the prompt counts once per prompt where the model is float32 and every
    layer attends to all positions (decoding then reads one copy), once per row elsewhere. Logits: 4 tables of rows * V
    in float32 (as they are, scaled, normalised, drawn from). Prefill: one layer's tables of all prompts. With vLLM the
    cache is the engine's own.
    """
    if not load.drawn or engine == "vllm":
        return 0
    config, item = model.config.get_text_config(), _item(model)
    _, keyed = _attention(config)
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    shared = item >= 4 and kinds == {"full_attention"}
    prompts = (load.drawn_prompts if shared else load.drawn) * load.prompt
    held = 2 * config.num_hidden_layers * keyed * item * (prompts + load.drawn * load.answer)
    prefill = load.drawn_prompts * load.prompt * (4 * config.hidden_size + 3 * _inner(config)) * item
    return held + 4 * 4 * load.drawn * config.vocab_size + prefill


def largest(model: Any) -> int:
    """Bytes of the largest trainable parameter's gradient: the head's is there when the backward pass begins."""
    return max((p.numel() * p.element_size() for p in trainable(model)), default=0)


def _item(model: Any) -> int:
    return next(model.parameters()).element_size()
