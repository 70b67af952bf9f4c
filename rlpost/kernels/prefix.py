"""One row for whole groups, not one per completion: `[p1 .. pB | c11 .. c1G | c21 ..]`, so a prompt is encoded once.

Exact for causal attention, full or in sliding windows: each completion sees its prompt and itself, at the positions it
would have had alone. Prompts, completions and groups may have any lengths; nothing is padded. The last token of a
completion predicts nothing and is left out.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.kernels.attention import NO_MASK, install
from rlpost.kernels.layout import Layout
from rlpost.likelihood.scoring import Ask, Rows
from rlpost.models.encode import VISUAL_INPUTS, Encoder
from rlpost.models.positions import next_positions, position_ids
from rlpost.models.unwrap import unwrap
from rlpost.types import Prompt

# Below this ratio of tokens, a shared prompt saves less than the bookkeeping may cost.
WORTH = 1.15
SEEN = {"full_attention", "sliding_attention"}


def refusal(model: Any) -> str | None:
    """Why this model cannot share prompts, in a sentence; None where it can."""
    inner = unwrap(model)
    config, name = inner.config.get_text_config(), type(inner).__name__
    kinds = set(getattr(config, "layer_types", None) or SEEN)
    if not kinds <= SEEN:
        return (
            f"{name} has layers of kind {', '.join(sorted(kinds - SEEN))}, whose state would leak between completions"
        )
    if getattr(inner.config, "is_encoder_decoder", False):
        return f"{name} encodes prompts apart from completions already"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention '{config._attn_implementation}' has not been tried; set model.attn_implementation=sdpa"
    if _drops(inner):
        return (
            "dropout draws other numbers for a shared prompt; set peft.lora_dropout=0, or what the model's own "
            "config.json names (attention_dropout and the like) to 0"
        )
    return None


def _drops(model: Any) -> bool:
    dropped = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model.modules())
    return dropped or bool(getattr(model.config.get_text_config(), "attention_dropout", 0.0))


def ratio(prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> float:
    """Tokens of one row per completion, over those of one row for all."""
    answers = sum(len(c) for c in completions)
    alone = sum(len(p.ids) for p in prompts) + answers
    shared = sum(len(p.ids) for p in {key(p): p for p in prompts}.values()) + answers
    return alone / max(1, shared)


def key(prompt: Prompt) -> Hashable:
    """Equal for prompts that can share a row: the same tokens and, where there are media, the same tensors."""
    return (tuple(prompt.ids), tuple(sorted((name, id(value)) for name, value in prompt.features.items())))


def pack(
    model: Any,
    encoder: Encoder,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    mask: Bool[Tensor, "N T"],
    device: torch.device,
    **ask: Any,
) -> Rows:
    """The packed row, asking for the completion tokens where `mask`; `ask` is passed on to `Ask`."""
    members: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        members.setdefault(key(prompt), []).append(row)
    unique = [prompts[rows[0]] for rows in members.values()]
    order = [row for rows in members.values() for row in rows]
    layout = Layout(
        tuple(len(p.ids) for p in unique),
        tuple(tuple(max(0, len(completions[row]) - 1) for row in rows) for rows in members.values()),
    )
    inputs: dict[str, Any] = _inputs(
        model, encoder, unique, [list(completions[row][:-1]) for row in order], layout, device
    )
    ends = [(stop - 1) for (_, stop), rows in zip(layout.prompt_spans, members.values(), strict=True) for _ in rows]
    places, targets = _places(layout, order, ends, completions, mask, device)
    if unwrap(model).config.get_text_config()._attn_implementation == "eager":
        inputs["attention_mask"] = _dense(layout, unwrap(model), device)
    else:
        install()
        inputs["attention_mask"] = NO_MASK.to(device)
    return Rows(inputs, Ask(mask.to(device), layout=layout, places=places, targets=targets, **ask))


def _inputs(
    model: Any,
    encoder: Encoder,
    unique: Sequence[Prompt],
    bodies: Sequence[list[int]],
    layout: Layout,
    device: torch.device,
) -> dict[str, Tensor]:
    padded = {name: value.to(device) for name, value in encoder.collate(unique).items()}
    positions = position_ids(model, padded)
    after = next_positions(positions)
    width = positions.shape[-1]
    pieces = [positions[..., row, width - length :] for row, length in enumerate(layout.prompts)]
    for row, lengths in enumerate(layout.completions):
        pieces += [after[..., row, :] + torch.arange(n, device=device) for n in lengths]
    ids = [token for prompt in unique for token in prompt.ids] + [token for body in bodies for token in body]
    inputs = {name: padded[name] for name in VISUAL_INPUTS if name in padded}
    if "mm_token_type_ids" in padded:
        kinds = [kind for prompt in unique for kind in prompt.kinds]
        kinds += [0] * (len(ids) - len(kinds))
        inputs["mm_token_type_ids"] = torch.tensor([kinds], dtype=torch.int32, device=device)
    return inputs | {
        "input_ids": torch.tensor([ids], device=device),
        "position_ids": torch.cat(pieces, -1).unsqueeze(-2),
    }


def _places(
    layout: Layout,
    order: Sequence[int],
    ends: Sequence[int],
    completions: Sequence[Sequence[int]],
    mask: Tensor,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Column t of a completion is predicted at its column t - 1, and its first token at the last one of the prompt."""
    start, first, before = layout.prompt_columns, [0] * len(order), [0] * len(order)
    for row, end, length in zip(order, ends, [n for one in layout.completions for n in one], strict=True):
        first[row], before[row], start = start, end, start + length
    row, column = mask.cpu().nonzero(as_tuple=True)
    place = torch.where(column == 0, torch.tensor(before)[row], torch.tensor(first)[row] + column - 1)
    tokens = torch.zeros(mask.shape, dtype=torch.long)
    for i, completion in enumerate(completions):
        tokens[i, : len(completion)] = torch.tensor(list(completion), dtype=torch.long)
    return place.to(device), tokens[row, column].to(device)


def _dense(layout: Layout, model: Any, device: torch.device) -> Tensor | dict[str, Tensor]:
    """Additive masks (1,1,L,L) by layer type: for attention of the model's own that takes no layout."""
    count = len(layout.prompts)
    lengths = [*layout.prompts, *(n for one in layout.completions for n in one)]
    group = [*range(count), *(g for g, one in enumerate(layout.completions) for _ in one)]
    size = torch.tensor(lengths)
    group = torch.tensor(group).repeat_interleave(size)
    part = torch.arange(len(lengths)).repeat_interleave(size)
    offset = [0] * count + [layout.prompts[g] for g, one in enumerate(layout.completions) for _ in one]
    place = torch.cat([torch.arange(n) + o for n, o in zip(lengths, offset, strict=True)])
    ago = place[:, None] - place[None]
    own, prompt = part[:, None] == part[None], (group[:, None] == group[None]) & (part[None] < count)
    seen = (own | prompt) & (ago >= 0)
    config, low = model.config.get_text_config(), torch.finfo(model.dtype).min
    window = getattr(config, "sliding_window", None)

    def additive(what: Tensor) -> Tensor:
        return torch.zeros(what.shape, dtype=model.dtype).masked_fill(~what, low)[None, None].to(device)

    if window is None:
        return additive(seen)
    kinds = getattr(config, "layer_types", None)
    near = additive(seen & (ago < window))
    if kinds is None:
        return near
    masks = {"full_attention": additive(seen), "sliding_attention": near}
    return masks if len(set(kinds)) > 1 else masks[kinds[0]]
