"""Cascade attention: the completions of all groups read each prompt's keys and values in place, merged by log-sum-exp.

Two exact pieces, attention to the prompt and attention to the completion itself, are merged in the forward pass; the
backward pass is the flash backward of each piece with the merged output and log-sum-exp. Nothing is copied or masked.
On CUDA the pieces are PyTorch's variable-length flash attention (half precision). On CPU the same code runs over
segments, for tests.
"""

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlpost.kernels.layout import Layout

Lengths = tuple[Tensor, int]
# What flash attention takes, and from which generation of GPUs on (Ampere).
HALF, CAPABILITY = (torch.bfloat16, torch.float16), 8


def usable(query: Tensor, value: Tensor) -> bool:
    """Whether CUDA's flash attention takes these tensors; elsewhere the group-by-group form is as fast."""
    width = query.shape[-1]
    if not query.is_cuda or query.dtype not in HALF or width != value.shape[-1] or width > 256 or width % 8:
        return False
    return torch.cuda.get_device_capability(query.device)[0] >= CAPABILITY


def prompts(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None) -> Tensor:
    """Causal attention of every prompt to itself; (1,H,P,d), keys and values (1,Hk,P,d)."""
    lengths = layout.cumulative("prompts", query.device)
    out = _Causal.apply(*(_flat(x) for x in (query, key, value)), lengths, _scale(query, scale))
    return out.transpose(0, 1)[None]


def completions(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prompt_key: Tensor,
    prompt_value: Tensor,
    layout: Layout,
    scale: float | None,
) -> Tensor:
    """Attention of every completion column to its prompt and to its own completion so far; (1,H,C,d)."""
    lengths = tuple(layout.cumulative(what, query.device) for what in ("groups", "prompts", "completions"))
    tensors = (_flat(x) for x in (query, key, value, prompt_key, prompt_value))
    return _Cascade.apply(*tensors, lengths, _scale(query, scale)).transpose(0, 1)[None]


def _flat(x: Tensor) -> Tensor:
    return x[0].transpose(0, 1).contiguous()


def _scale(query: Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: Lengths, scale: float) -> Tensor:
        found = attend(query, key, value, lengths, lengths, causal=True, scale=scale)
        ctx.save_for_backward(query, key, value, found.out, found.lse)
        ctx.lengths, ctx.scale = lengths, scale
        return found.out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        query, key, value, out, lse = ctx.saved_tensors
        grads = attend_backward(grad, query, key, value, Attended(out, lse), ctx.lengths, ctx.lengths, True, ctx.scale)
        return *grads, None, None


class _Cascade(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prompt_key: Tensor,
        prompt_value: Tensor,
        lengths: tuple[Lengths, Lengths, Lengths],
        scale: float,
    ) -> Tensor:
        groups, prompts, own = lengths
        far = attend(query, prompt_key, prompt_value, groups, prompts, causal=False, scale=scale)
        near = attend(query, key, value, own, own, causal=True, scale=scale)
        lse = torch.logaddexp(far.lse, near.lse)
        shares = [(x.lse - lse).exp().T[..., None] for x in (far, near)]
        merged = (far.out * shares[0] + near.out * shares[1]).to(query.dtype)
        ctx.save_for_backward(query, key, value, prompt_key, prompt_value, merged, lse)
        ctx.lengths, ctx.scale = lengths, scale
        return merged

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple:
        query, key, value, prompt_key, prompt_value, out, lse = ctx.saved_tensors
        (groups, prompts, own), merged = ctx.lengths, Attended(out, lse)
        far = attend_backward(grad, query, prompt_key, prompt_value, merged, groups, prompts, False, ctx.scale)
        near = attend_backward(grad, query, key, value, merged, own, own, True, ctx.scale)
        return far[0] + near[0], near[1], near[2], far[1], far[2], None, None


class Attended(NamedTuple):
    """Output (L,H,d) and log-sum-exp of the scores (H,L), float32 or better."""

    out: Tensor
    lse: Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, rows: Lengths, others: Lengths, *, causal: bool, scale: float
) -> Attended:
    """Variable-length attention: query (L,H,d), key and value (K,Hk,d), cumulative lengths of both sides."""
    if query.is_cuda:
        out, lse, *_ = torch.ops.aten._flash_attention_forward(
            query, key, value, rows[0], others[0], rows[1], others[1], 0.0, causal, False, scale=scale
        )
        return Attended(out, lse)
    out = torch.empty_like(query)
    lse = query.new_empty(query.shape[1], query.shape[0], dtype=torch.promote_types(query.dtype, torch.float32))
    for q, k in _segments(rows, others):
        part = _heads_first(query[q]), *(_heads_first(x[k], query.shape[1]) for x in (key, value))
        found, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*part, 0.0, causal, scale=scale)
        out[q], lse[:, q] = found[0].transpose(0, 1), norm[0]
    return Attended(out, lse)


def attend_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    found: Attended,
    rows: Lengths,
    others: Lengths,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value, given the output and log-sum-exp over everything that the query saw."""
    if query.is_cuda:
        unused = torch.empty(2, dtype=torch.uint64, device=query.device)  # the state of a dropout that is off
        return torch.ops.aten._flash_attention_backward(
            grad.contiguous(), query, key, value, found.out, found.lse, rows[0], others[0], rows[1], others[1], 0.0,
            causal, unused, unused, scale=scale,
        )  # fmt: skip
    grads = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    heads, times = query.shape[1], query.shape[1] // key.shape[1]
    for q, k in _segments(rows, others):
        part = _heads_first(query[q]), *(_heads_first(x[k], heads) for x in (key, value))
        found_here = _heads_first(found.out[q]), found.lse[None, :, q].contiguous()
        dq, dk, dv = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            _heads_first(grad[q]), *part, *found_here, 0.0, causal, scale=scale
        )
        grads[0][q] = dq[0].transpose(0, 1)
        for whole, one in zip(grads[1:], (dk, dv), strict=True):
            whole[k] = one[0].unflatten(0, (-1, times)).sum(1).transpose(0, 1)
    return grads


def _segments(rows: Lengths, others: Lengths) -> list[tuple[slice, slice]]:
    a, b = rows[0].tolist(), others[0].tolist()
    pairs = zip(itertools.pairwise(a), itertools.pairwise(b), strict=True)
    return [(slice(*q), slice(*k)) for q, k in pairs if q[1] > q[0]]


def _heads_first(x: Tensor, heads: int | None = None) -> Tensor:
    x = x.transpose(0, 1)[None]
    return x.contiguous() if heads is None else x.repeat_interleave(heads // x.shape[1], 1).contiguous()
