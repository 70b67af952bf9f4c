"""Log-probabilities and entropies straight from hidden states, without ever holding more logits than the budget.

The vocabulary is worked on in blocks. Between the passes the blocks that fit the budget are kept; the others are
computed again, for the rows whose gradient is not zero. A frozen head whose blocks do not fit keeps none: its gradient
dlogp/dh = (W_y - E_p[W]) / temperature needs only the mean row of the head, summed during the forward pass.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlpost.kernels import blocks
from rlpost.kernels.blocks import Link, Part, Upstream, refuse_second_derivative
from rlpost.kernels.budget import logits_budget


def linear_logp(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    tokens: Int[Tensor, "M"],
    *,
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
    softcap: float | None = None,
    banned: Sequence[int] = (),
    budget: int | None = None,
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """Log-probability (nats) of `tokens` and entropy of the next-token distribution, both differentiable once.

    float32, or float64 where `hidden` is float64. Sums run in float32 or better; on CUDA the logits themselves have the
    dtype of the states, elsewhere float32 or float64. `budget`: bytes of logits that may be held at once, by default
    `logits_budget` of the device.

    Equation:
        z = softcap * tanh((h W' + b) / softcap) / temperature
        logp = z_y - logsumexp(z);  H = logsumexp(z) - sum_v p_v z_v
    Gradient:
        dlogp/dz_v = 1[v = y] - p_v;  dH/dz_v = -p_v (log p_v + H). Rows to which both upstream gradients are exactly 0
        cost nothing.
    Edge cases:
        `banned` ids have probability 0, as when sampling suppresses them, and no gradient. No rows: two empty tensors.
    Errors:
        ValueError for shapes, dtypes, ids or settings that do not fit; RuntimeError for a second derivative.
    """
    hidden, head, bias = _cast(hidden, head, bias)
    _check(hidden, head, tokens, bias, temperature, softcap, banned)
    link = Link(float(temperature), softcap, tuple(sorted(set(banned))))
    budget = logits_budget(hidden.device) if budget is None else budget
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (hidden, head, bias))
    return _LinearLogp.apply(hidden, head, bias, tokens.long(), link, budget, differentiable)


class _LinearLogp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, bias, tokens, link: Link, budget: int, differentiable: bool):
        ctx.set_materialize_grads(False)
        with torch.autocast(hidden.device.type, enabled=False), torch.cuda.device_of(hidden):
            kind = blocks.blocks_of(hidden)
            ops = kind(hidden, tokens, link)
            spans, fits = _plan(kind, hidden, head.shape[0], budget)
            trains_head = head.requires_grad or (bias is not None and bias.requires_grad)
            flash = differentiable and not trains_head and fits < len(spans)
            keep = fits if differentiable and not flash else 0
            target = torch.full(tokens.shape, torch.nan, dtype=ops.dtype, device=hidden.device)
            parts, mean_row = _fold(ops, head, bias, spans, target, keep, flash)
            norm, mean = _combine(parts)
            if link.banned:
                target[torch.isin(tokens, torch.tensor(link.banned, device=tokens.device))] = -torch.inf
        if flash:
            saved = [_direction(head, tokens, link, target, mean_row)]
        else:
            saved = [t for part in parts[:keep] for t in (part.block, part.peak)]
        if differentiable:
            ctx.save_for_backward(hidden, head, bias, tokens, target, norm, mean, *saved)
            ctx.link, ctx.spans, ctx.flash = link, spans, flash
        return target - norm, mean

    @staticmethod
    def backward(ctx, grad_logp, grad_entropy):
        refuse_second_derivative("linear_logp")
        hidden, head, bias, tokens, target, norm, mean, *saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[:3]
        rows, g, h = _active(grad_logp, grad_entropy, norm)
        if rows is not None and len(rows) == 0:
            found = [torch.zeros_like(t) if n else None for t, n in zip((hidden, head, bias), needs, strict=True)]
            return *found, None, None, None, None
        pick = (lambda t: t) if rows is None else (lambda t: t[rows])
        with torch.autocast(hidden.device.type, enabled=False), torch.cuda.device_of(hidden):
            if ctx.flash and h is None:
                return _spread(pick(saved[0]) * g[:, None], hidden, rows), *[None] * 6
            up = Upstream(g, h, pick(norm), pick(mean), pick(target))
            ops = blocks.blocks_of(hidden)(pick(hidden), pick(tokens), ctx.link)
            kept = [] if ctx.flash else list(zip(saved[::2], saved[1::2], strict=True))
            d_hidden, d_head, d_bias = _gradients(ops, head, bias, ctx.spans, kept, up, rows, needs)
        return None if d_hidden is None else _spread(d_hidden, hidden, rows), d_head, d_bias, *[None] * 4


def _plan(kind: Any, hidden: Tensor, vocabulary: int, budget: int) -> tuple[list[tuple[int, int]], int]:
    """Spans of ids, and how many of them can be kept in the budget beside the block that is being worked on."""
    rows = max(1, len(hidden))
    column = rows * kind.item(hidden.dtype)
    width = max(1, min(kind.width(rows), vocabulary, budget // (2 * kind.SCRATCH * column)))
    spans = [(a, min(a + width, vocabulary)) for a in range(0, vocabulary, width)]
    room = budget // column - kind.SCRATCH * width
    return spans, len(spans) if room >= vocabulary else max(0, room // width)


def _fold(ops, head, bias, spans, target, keep: int, flash: bool) -> tuple[list[Part], Tensor | None]:
    """Statistics of all blocks, and with `flash` the mean row of the head under p (times dz/dr), (M,D)."""
    parts: list[Part] = []
    total = ops.zeros() if flash else None
    peak = mass = None
    for i, (a, b) in enumerate(spans):
        rows, shift = head[a:b], None if bias is None else bias[a:b]
        part = ops.measure(rows, shift, a, target, floor=peak, keep=i < keep)
        if total is not None:
            now = part.peak.amax(0) if peak is None else torch.maximum(peak, part.peak.amax(0))
            here = (part.mass * torch.exp(part.peak - now)).sum(0)
            if peak is not None and mass is not None:
                shrink = torch.exp(peak - now)
                ops.rows(total).mul_(shrink[:, None])
                here = here + mass * shrink
            ops.pull(total, ops.weights(part._replace(peak=now[None])), rows)
            peak, mass = now, here
        parts.append(part if i < keep else part._replace(block=target))
    return parts, None if total is None or mass is None else ops.rows(total) / mass[:, None]


def _combine(parts: list[Part]) -> tuple[Tensor, Tensor]:
    """logsumexp and entropy of the rows from the statistics of their blocks."""
    peak, mass, moment = (torch.cat([getattr(p, name) for p in parts]) for name in ("peak", "mass", "moment"))
    top = peak.amax(0)
    share = torch.exp(peak - top)
    total = (share * mass).sum(0)
    mean = (share * (moment + (peak - top) * mass)).sum(0) / total  # of z - top under p
    return top + total.log(), total.log() - mean


def _direction(head: Tensor, tokens: Tensor, link: Link, target: Tensor, mean_row: Any) -> Tensor:
    """dlogp/dh (M,D) under a head that does not train."""
    absent = target == -torch.inf
    weight = torch.ones_like(target) if not link.softcap else link.slope(target.masked_fill(absent, 0.0))
    weight = weight.masked_fill(absent, 0.0)
    return (head[tokens].to(mean_row.dtype) * weight[:, None] - mean_row) / link.temperature


def _active(grad_logp: Any, grad_entropy: Any, like: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Rows with a gradient (None for all of them), and theirs; the entropy's is None where it is zero everywhere."""
    g = torch.zeros_like(like) if grad_logp is None else grad_logp.to(like.dtype)
    h = None if grad_entropy is None or not bool((grad_entropy != 0).any()) else grad_entropy.to(like.dtype)
    active = g != 0 if h is None else (g != 0) | (h != 0)
    if bool(active.all()) and len(active):
        return None, g, h
    rows = active.nonzero()[:, 0]
    return rows, g[rows], None if h is None else h[rows]


def _gradients(ops, head, bias, spans, kept, up: Upstream, rows, needs) -> tuple[Any, Any, Any]:
    d_hidden = ops.zeros() if needs[0] else None
    d_head = torch.empty_like(head, memory_format=torch.contiguous_format) if needs[1] else None
    d_bias = torch.empty_like(bias) if needs[2] else None
    unused = torch.empty_like(up.target)
    for i, (a, b) in enumerate(spans):
        if i < len(kept):
            d = ops.gradient(*kept[i], a, up, rows)
        else:
            part = ops.measure(head[a:b], None if bias is None else bias[a:b], a, unused)
            d = ops.gradient(part.block, part.peak, a, up, None)
        if d_hidden is not None:
            ops.pull(d_hidden, d, head[a:b])
        if d_head is not None:
            ops.push(d, d_head[a:b])
        if d_bias is not None:
            d_bias[a:b] = ops.bias(d)
    return None if d_hidden is None else ops.rows(d_hidden), d_head, d_bias


def _spread(found: Tensor, like: Tensor, rows: Tensor | None) -> Tensor:
    """Gradients of some rows as those of all rows, in the dtype of the states."""
    if rows is None:
        return found.to(like.dtype, memory_format=torch.contiguous_format)
    return torch.zeros_like(like).index_copy_(0, rows, found.to(like.dtype))


def _cast(hidden: Tensor, head: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Under autocast what a linear layer would be given."""
    kind = hidden.device.type
    if not torch.is_autocast_enabled(kind) or hidden.dtype == torch.float64:
        return hidden, head, bias
    dtype = torch.get_autocast_dtype(kind)
    return hidden.to(dtype), head.to(dtype), None if bias is None else bias.to(dtype)


def _check(hidden, head, tokens, bias, temperature, softcap, banned) -> None:
    """Raise ValueError in a sentence. Nothing here waits for a device, except that a CPU's token ids are looked at."""
    vocabulary = head.shape[0]
    if hidden.dim() != 2 or head.dim() != 2 or hidden.shape[1] != head.shape[1]:
        raise ValueError(f"hidden must be (M,D) and head (V,D), not {tuple(hidden.shape)} and {tuple(head.shape)}")
    if tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens are ids, so integers, not {tokens.dtype}")
    if not hidden.is_floating_point():
        raise ValueError(f"hidden and head must be floating point, not {hidden.dtype}")
    if tokens.shape != hidden.shape[:1]:
        raise ValueError(f"tokens must have one id per row of hidden ({len(hidden)}), not {tuple(tokens.shape)}")
    if bias is not None and bias.shape != (vocabulary,):
        raise ValueError(f"bias must have one entry per row of head ({vocabulary}), not {tuple(bias.shape)}")
    if hidden.dtype != head.dtype:
        raise ValueError(f"hidden is {hidden.dtype} and head {head.dtype}; give both one dtype, or use autocast")
    if not temperature > 0 or (softcap is not None and not softcap > 0):
        raise ValueError(f"temperature and softcap must be positive, not {temperature} and {softcap}")
    if banned and not (min(banned) >= 0 and max(banned) < vocabulary and len(set(banned)) < vocabulary):
        raise ValueError(f"banned ids must lie in [0, {vocabulary}) and leave some id: {sorted(banned)[:8]}")
    if tokens.device.type == "cpu" and len(tokens) and not (0 <= int(tokens.min()) <= int(tokens.max()) < vocabulary):
        raise ValueError(f"tokens must lie in [0, {vocabulary}), not {int(tokens.min())}..{int(tokens.max())}")
