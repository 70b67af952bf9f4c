"""Attention over a packed row: a prompt sees itself, a completion its prompt and itself.

`install` makes transformers' `sdpa` heed a `prompt_layout` keyword; without the keyword nothing changes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from rlpost.kernels import cascade
from rlpost.kernels.layout import Layout

# Given as attention mask beside a layout: transformers passes a 4-D mask through instead of building one.
NO_MASK = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def install() -> None:
    """Register the layout-aware form of `sdpa` with transformers. Idempotent."""
    from transformers import AttentionInterface

    interface = AttentionInterface()
    stock = interface["sdpa"]
    if getattr(stock, "heeds_layout", False):
        return

    def sdpa(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **how: Any) -> Any:
        layout = how.pop("prompt_layout", None)
        # Vision towers get the same keywords; their attention is not causal and not packed.
        if layout is None or not getattr(module, "is_causal", True):
            return stock(module, query, key, value, attention_mask, **how)
        return packed(module, query, key, value, layout, **how), None

    sdpa.heeds_layout = True
    AttentionInterface.register("sdpa", sdpa)


def packed(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """Attention output (1,L,H,d) of a packed row; query (1,H,L,d), key and value (1,Hk,L,d).

    Raises NotImplementedError for scores that are capped or that have sinks: a dense mask serves those.
    """
    if softcap is not None or s_aux is not None:
        raise NotImplementedError("capped attention scores and attention sinks need the dense mask (eager attention)")
    if sliding_window is None and _kind(module) == "sliding_attention":
        raise NotImplementedError(f"{type(module).__name__} does not say how wide its window is")
    layout.calls += 1
    query, key, value = _cast(query, key, value)
    columns = layout.prompt_columns if layout.states is None else 0
    parts, window = [], sliding_window
    if layout.states is None:
        kept = key[:, :, :columns], value[:, :, :columns]
        if layout.record is not None:
            layout.record[module.layer_idx] = kept
    else:
        kept = layout.states[module.layer_idx]
    own = query[:, :, columns:], key[:, :, columns:], value[:, :, columns:]
    flash = cascade.usable(query, value) and window is None
    if columns:
        prompts = query[:, :, :columns]
        if flash:
            parts.append(cascade.prompts(prompts, *kept, layout, scaling))
        else:
            spans = layout.prompt_spans
            parts += [
                _causal(prompts[:, :, a:b], kept[0][:, :, a:b], kept[1][:, :, a:b], window, scaling) for a, b in spans
            ]
    if own[0].shape[2]:
        if flash:
            parts.append(cascade.completions(*own, *kept, layout, scaling))
        else:
            parts += [
                _completions(own, kept, layout, group, window, scaling)
                for group, (a, b) in enumerate(layout.group_spans)
                if b > a
            ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


def _cast(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Under autocast what torch's own attention would be given: rotary tables leave query and key in float32."""
    kind = query.device.type
    if not torch.is_autocast_enabled(kind) or query.dtype == torch.float64:
        return query, key, value
    dtype = torch.get_autocast_dtype(kind)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def _kind(module: Any) -> str | None:
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    return kinds[module.layer_idx] if kinds else None


def _causal(query: Tensor, key: Tensor, value: Tensor, window: int | None, scaling: float | None) -> Tensor:
    length = query.shape[2]
    if window is None or length <= window:
        return _sdpa(query, key, value, None, scaling)
    place = torch.arange(length, device=query.device)
    ago = place[:, None] - place[None]
    return _sdpa(query, key, value, (ago >= 0) & (ago < window), scaling)


def _completions(
    own: tuple[Tensor, Tensor, Tensor],
    kept: tuple[Tensor, Tensor],
    layout: Layout,
    group: int,
    window: int | None,
    scaling: float | None,
) -> Tensor:
    """The completions of one group as rows, each behind the keys and values of its prompt."""
    a, b = layout.prompt_spans[group]
    start, stop = layout.group_spans[group]
    # The first completion column sees the last window - 1 columns of the prompt, later ones fewer.
    first = 0 if window is None else max(0, b - a - window + 1)
    table = layout.table(group, own[0].device)

    def rows(x: Tensor) -> Tensor:
        x = x[:, :, start:stop]
        x = x if table.index is None else x.index_select(2, table.index)
        return x.reshape(x.shape[1], table.rows, table.width, x.shape[3]).transpose(0, 1)

    query, *pair = (rows(x) for x in own)
    key, value = (
        torch.cat([x[:, :, a + first : b].expand(table.rows, -1, -1, -1), y], 2)
        for x, y in zip(kept, pair, strict=True)
    )
    found = _sdpa(query, key, value, layout.mask(group, first, window, query.device), scaling)
    found = found.transpose(0, 1).reshape(1, query.shape[1], table.rows * table.width, -1)
    return found if table.back is None else found.index_select(2, table.back)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Causal without a mask. On CUDA only flash attention, of half precision and without a mask, shares key heads.

    Everything else with shared heads would fall back to the slow math kernel, which holds all scores.
    """
    shared = query.shape[1] != key.shape[1]
    if shared and query.is_cuda and (mask is not None or query.dtype not in cascade.HALF):
        times = query.shape[1] // key.shape[1]
        key, value, shared = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1), False
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
    )
