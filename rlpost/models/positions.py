"""Position ids, computed once here and passed to generation and to the log-probability forward, so the two cannot differ."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rlpost.likelihood.scoring import unwrap

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
    return positions


def next_positions(positions: Tensor) -> Tensor:
    """Positions of the first token after a left-padded prompt: one past the largest, the same on all axes."""
    last = positions.amax(-1, keepdim=True)
    return last + 1 if positions.dim() == 2 else last.amax(0, keepdim=True).expand(3, -1, -1) + 1
