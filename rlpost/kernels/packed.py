"""The hidden states of a packed row, whole or with its completions a few at a time."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from rlpost.errors import SelfCheckError
from rlpost.kernels.layout import Layout

PER_COLUMN = ("input_ids", "position_ids", "mm_token_type_ids")


def hidden_states(trunk: Any, inputs: Mapping[str, Any], layout: Layout, at_once: int | None) -> Tensor:
    """Hidden states (1,L,D) of a packed row. With `at_once`, completions pass the trunk that many at a time.

    Each part is computed again in the backward pass, so that the activations of the prompts and of one part are all
    that is held; gradients to the prompts' keys and values add up, and the prompts are gone through once.

    Raises SelfCheckError where the model's attention did not heed the layout.
    """
    if isinstance(inputs["attention_mask"], dict) or inputs["attention_mask"].numel() > 1:  # dense: no layout needed
        return trunk(**inputs, use_cache=False).last_hidden_state
    layout.calls = 0
    if at_once is None or sum(map(len, layout.completions)) <= at_once:
        found = trunk(**inputs, prompt_layout=layout, use_cache=False).last_hidden_state
        _heeded(layout, trunk)
        return found
    first, columns = layout.without_completions(), layout.prompt_columns
    visual = {name: value for name, value in inputs.items() if name not in (*PER_COLUMN, "attention_mask")}
    states = [trunk(**visual, **_columns(inputs, 0, columns), prompt_layout=first, use_cache=False).last_hidden_state]
    _heeded(first, trunk)

    def part(one: Layout, start: int, stop: int) -> Tensor:
        return trunk(**_columns(inputs, start, stop), prompt_layout=one, use_cache=False).last_hidden_state

    for one, (start, stop) in layout.chunks(at_once, dict(first.record or {})):
        span = columns + start, columns + stop
        again = torch.is_grad_enabled()
        states.append(checkpoint(part, one, *span, use_reentrant=False) if again else part(one, *span))
    return torch.cat(states, 1)


def _columns(inputs: Mapping[str, Any], start: int, stop: int) -> dict[str, Tensor]:
    kept = {name: inputs[name][..., start:stop] for name in PER_COLUMN if name in inputs}
    return kept | {"attention_mask": inputs["attention_mask"]}


def _heeded(layout: Layout, trunk: Any) -> None:
    layers = trunk.config.get_text_config().num_hidden_layers
    if layout.calls < layers:
        raise SelfCheckError(
            f"{layout.calls} of {layers} attention layers of {type(trunk).__name__} heeded the shared prompts, so its "
            "completions would see each other; set kernels.prefix=off"
        )
