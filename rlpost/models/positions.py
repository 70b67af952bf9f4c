"""Position ids, computed here for generation and for the log-probability forward, so that the two cannot differ."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rlpost.models.unwrap import unwrap

GRIDS = ("image_grid_thw", "video_grid_thw", "second_per_grid_ts")


def position_ids(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Positions of a padded batch: (N,T), or (3,N,T) for a model with multimodal rotary positions.

    Padding holds 0. Rows without media count their tokens on all three axes.
    """
    flat = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    body = getattr(unwrap(model), "model", None)
    if not hasattr(body, "get_rope_index"):
        return flat
    if not any(name in inputs for name in GRIDS[:2]):
        return flat[None].expand(3, -1, -1)
    grids = {name: inputs[name] for name in GRIDS if name in inputs}
    positions, _ = body.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], attention_mask=inputs["attention_mask"], **grids
    )
    return _text_after_media(positions, inputs["mm_token_type_ids"]) * inputs["attention_mask"]


def _text_after_media(positions: Tensor, kinds: Tensor) -> Tensor:
    """Let the text after an image or a video start one past the largest position of that medium.

    So was Qwen2.5-VL trained and so do inference engines run it. transformers 5.23 starts the text inside the time span
    of a long video instead, while its own generation continues past the largest position: the two then disagree.
    """
    positions, visual = positions.clone(), kinds.ne(0)
    start = dict.fromkeys(visual[:, 0].nonzero()[:, 0].tolist(), 0)
    for row, before in (visual[:, 1:] != visual[:, :-1]).nonzero().tolist():
        if row not in start:
            start[row] = before + 1
            continue
        last = positions[:, row, start.pop(row) : before + 1].max()
        positions[:, row, before + 1 :] += last + 1 - positions[0, row, before + 1]
    return positions


def next_positions(positions: Tensor) -> Tensor:
    """Positions of the first token after a left-padded prompt: one past the largest, the same on all axes."""
    last = positions.amax(-1, keepdim=True)
    return last + 1 if positions.dim() == 2 else last.amax(0, keepdim=True).expand(3, -1, -1) + 1
