"""One row per prompt, not per completion: `[prompt | c1 | c2 | ... ]`, so a prompt and its media are encoded once.

Exact for attention that sees all positions: each completion sees the prompt and itself, at the positions it would have
had alone. The last token of a completion predicts nothing and is left out.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rlpost.likelihood.scoring import unwrap
from rlpost.models.encode import Encoder
from rlpost.models.positions import next_positions, position_ids
from rlpost.types import Prompt

# Below this ratio of tokens, the dense mask costs more than the shared prompt saves.
WORTH = 1.15


class Packed(NamedTuple):
    """Model inputs with a 4-D mask; `places` (M,) are the flattened hidden states that predict `targets` (M,)."""

    inputs: dict[str, Tensor]
    places: Int[Tensor, "M"]
    targets: Int[Tensor, "M"]


def refusal(model: Any) -> str | None:
    """Why this model cannot share prompts, in a sentence; None where it can."""
    inner = unwrap(model)
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        found = ", ".join(sorted(kinds))
        return f"{type(inner).__name__} has layers of kind {found}; only full attention is shared exactly"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention '{config._attn_implementation}' takes no mask of our own; set attn_implementation=sdpa"
    if getattr(config, "attention_dropout", 0.0):
        return "attention dropout draws other numbers for a shared prompt; set it to 0"
    return None


def ratio(prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> float:
    """Tokens of one row per completion, over those of one row per prompt."""
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
) -> Packed:
    """Inputs, places and targets of the completion tokens where `mask`, in row-major order of the mask."""
    members: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        members.setdefault(key(prompt), []).append(row)
    unique = [prompts[rows[0]] for rows in members.values()]
    inputs = {name: value.to(device) for name, value in encoder.collate(unique).items()}
    positions, start = position_ids(model, inputs), inputs["input_ids"].shape[1]
    offsets, width = _offsets(list(members.values()), completions, start)
    length = start + width
    ids = torch.full((len(unique), length), encoder.pad_id)
    segment = torch.full((len(unique), length), -2)  # -2 padding, -1 prompt, otherwise the completion's row
    step = torch.zeros(len(unique), length, dtype=torch.long)
    ids[:, :start] = inputs["input_ids"].cpu()
    segment[:, :start] = torch.where(inputs["attention_mask"].bool().cpu(), -1, -2)
    places, targets = [], []
    for group, rows in enumerate(members.values()):
        for row in rows:
            body, first = list(completions[row]), offsets[row]
            here = slice(first, first + len(body) - 1)
            ids[group, here] = torch.tensor(body[:-1], dtype=torch.long)
            segment[group, here] = row
            step[group, here] = torch.arange(len(body) - 1)
    group_of = {row: group for group, rows in enumerate(members.values()) for row in rows}
    for row, column in mask.cpu().nonzero().tolist():
        before = start - 1 if column == 0 else offsets[row] + column - 1
        places.append(group_of[row] * length + before)
        targets.append(completions[row][column])
    shared = {name: value for name, value in inputs.items() if name not in ("input_ids", "attention_mask")}
    if "mm_token_type_ids" in shared:
        kinds = shared["mm_token_type_ids"]
        shared["mm_token_type_ids"] = torch.cat([kinds, kinds.new_zeros(len(unique), width)], 1)
    after = next_positions(positions) + step[:, start:].to(device)
    shared |= {
        "input_ids": ids.to(device),
        "position_ids": torch.cat([positions, after], -1),
        "attention_mask": _additive(_mask(segment), model).to(device),
    }
    return Packed(shared, torch.tensor(places, device=device), torch.tensor(targets, device=device))


def _offsets(
    groups: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], start: int
) -> tuple[dict[int, int], int]:
    offsets, width = {}, 0
    for rows in groups:
        place = start
        for row in rows:
            offsets[row] = place
            place += len(completions[row]) - 1
        width = max(width, place - start)
    return offsets, width


def _additive(seen: Bool[Tensor, "B 1 L L"], model: Any) -> Tensor:
    """sdpa takes the boolean mask; eager attention adds the mask to its scores."""
    if unwrap(model).config.get_text_config()._attn_implementation != "eager":
        return seen
    return torch.zeros(seen.shape, dtype=model.dtype).masked_fill(~seen, torch.finfo(model.dtype).min)


def _mask(segment: Int[Tensor, "B L"]) -> Bool[Tensor, "B 1 L L"]:
    """Causal within the prompt and within each completion; padding sees only itself, so that no row is empty."""
    length = segment.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    query, other = segment[:, :, None], segment[:, None, :]
    seen = earlier & (query != -2) & ((other == -1) | (other == query))
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]
