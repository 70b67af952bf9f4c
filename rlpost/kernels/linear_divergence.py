"""Divergences over the whole vocabulary straight from hidden states, without ever holding more logits than the budget.

A row's value depends on that row only, so its derivative by the logits is formed chunk by chunk in the forward pass and
scaled by the row's upstream gradient in the backward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.kernels.blocks import refuse_second_derivative
from rlpost.kernels.budget import logits_budget

# Tables (rows,V) that are alive while a divergence of a chunk is differentiated: logits, log-probabilities, their
# difference and the gradients of each, of two models.
TABLES = 10


@dataclass(frozen=True)
class Side:
    """How one model's logits come from its states, apart from the tensors."""

    softcap: float | None
    temperature: float


def linear_divergence(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    other_hidden: Float[Tensor, "M E"],
    other_head: Float[Tensor, "V E"],
    *,
    divergence: Callable[[Tensor, Tensor], Tensor],
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
    softcap: float | None = None,
    other_bias: Float[Tensor, "V"] | None = None,
    other_softcap: float | None = None,
    banned: Sequence[int] = (),
    budget: int | None = None,
) -> Float[Tensor, "M"]:
    """`divergence(p_logits, q_logits)` per row: p another model, without gradient, and q the policy (`hidden`, `head`).

    float32, or float64 where `hidden` is float64; differentiable once, by `hidden`, `head` and `bias` only.
    `temperature` and `banned` hold for both models; `banned` ids are left out of the vocabulary that the divergence
    sees. `budget`: bytes of logits that may be held at once, by default `logits_budget` of the device, but one row of
    both models is always held.

    Gradient:
        Rows whose upstream gradient is exactly 0 cost nothing in the backward pass. With a frozen head only (M,D)
        numbers are kept; otherwise the derivatives (M,V) if they fit half the budget, or else they are formed again.
    Errors:
        ValueError for shapes, ids or settings that do not fit, or a divergence that is not one number per row;
        RuntimeError for a second derivative.
    """
    _check(hidden, head, other_hidden, other_head, temperature, banned)
    _check_logits(head, (bias, other_bias), (softcap, other_softcap))
    budget = logits_budget(hidden.device) if budget is None else budget
    sides = Side(softcap, temperature), Side(other_softcap, temperature)
    allowed = None
    if banned:
        allowed = torch.ones(head.shape[0], dtype=torch.bool, device=head.device)
        allowed[list(banned)] = False
        allowed = allowed.nonzero()[:, 0]
    work = _Work(divergence, sides, allowed, budget)
    differentiable = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (hidden, head, bias))
    others = [None if t is None else t.detach() for t in (other_hidden, other_head, other_bias)]
    return _LinearDivergence.apply(hidden, head, bias, *others, work, differentiable)


@dataclass(frozen=True)
class _Work:
    divergence: Callable[[Tensor, Tensor], Tensor]
    sides: tuple[Side, Side]
    allowed: Tensor | None
    budget: int

    def chunks(self, rows: int, vocabulary: int, dtype: torch.dtype, kept: bool) -> list[slice]:
        room = self.budget // 2 if kept else self.budget
        size = max(1, room // (TABLES * vocabulary * (8 if dtype == torch.float64 else 4)))
        return [slice(a, min(a + size, rows)) for a in range(0, rows, size)]

    def logits(self, products: Tensor, side: Side) -> Tensor:
        z = products if products.dtype == torch.float64 else products.float()
        if side.softcap:
            z = side.softcap * torch.tanh(z / side.softcap)
        z = z / side.temperature
        return z if self.allowed is None else z.index_select(-1, self.allowed)

    def values(self, products: Tensor, other_products: Tensor) -> Tensor:
        found = self.divergence(self.logits(other_products, self.sides[1]), self.logits(products, self.sides[0]))
        if found.shape != products.shape[:1]:
            raise ValueError(f"a divergence must give one number per row ({len(products)}), not {tuple(found.shape)}")
        return found

    def derive(self, products: Tensor, other_products: Tensor) -> tuple[Tensor, Tensor]:
        """Values (m,) and their derivative by the products (m,V), each row of its own value."""
        with torch.enable_grad():
            leaf = products.detach().requires_grad_()
            values = self.values(leaf, other_products)
            if not values.requires_grad:
                return values, torch.zeros_like(leaf)
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), slope


class _LinearDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, bias, other_hidden, other_head, other_bias, work: _Work, differentiable: bool):
        ctx.set_materialize_grads(False)
        trains_head = head.requires_grad or (bias is not None and bias.requires_grad)
        table = len(hidden) * head.shape[0] * hidden.dtype.itemsize
        keep = differentiable and trains_head and 2 * table <= work.budget
        direct = differentiable and not trains_head
        kind = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        values = torch.empty(len(hidden), dtype=kind, device=hidden.device)
        slopes = hidden.new_empty(len(hidden), head.shape[0]) if keep else None
        directions = torch.empty(hidden.shape, dtype=kind, device=hidden.device) if direct else None
        for rows in work.chunks(len(hidden), head.shape[0], hidden.dtype, keep):
            products, others = _products(rows, hidden, head, bias, other_hidden, other_head, other_bias)
            if not (keep or direct):
                values[rows] = work.values(products, others)
                continue
            values[rows], slope = work.derive(products, others)
            if slopes is not None:
                slopes[rows] = slope
            if directions is not None:
                directions[rows] = slope @ head
        if differentiable:
            given = hidden, head, bias, other_hidden, other_head, other_bias
            ctx.save_for_backward(*given, slopes, directions)
            ctx.work = work
        return values

    @staticmethod
    def backward(ctx, grad):
        refuse_second_derivative("linear_divergence")
        *given, slopes, directions = ctx.saved_tensors
        hidden, head, bias = given[:3]
        needs = ctx.needs_input_grad[:3]
        found: list[Any] = [
            torch.zeros(t.shape, dtype=t.dtype if t.dtype == torch.float64 else torch.float32, device=t.device)
            if need
            else None
            for t, need in zip((hidden, head, bias), needs, strict=True)
        ]
        active = torch.zeros(0, dtype=torch.long) if grad is None else (grad != 0).nonzero()[:, 0]
        if directions is not None and len(active):
            found[0][active] = directions[active] * grad[active, None]
        elif len(active):
            chunks = ctx.work.chunks(len(active), head.shape[0], hidden.dtype, slopes is not None)
            for rows in (active[part] for part in chunks):
                if slopes is None:
                    products, others = _products(rows, *given)
                    _, slope = ctx.work.derive(products, others)
                else:
                    slope = slopes[rows]
                _add(found, slope * grad[rows, None].to(slope.dtype), rows, hidden, head)
        casts = [None if f is None else f.to(t.dtype) for f, t in zip(found, (hidden, head, bias), strict=True)]
        return *casts, *[None] * 5


def _products(rows, hidden, head, bias, other_hidden, other_head, other_bias) -> tuple[Tensor, Tensor]:
    linear = torch.nn.functional.linear
    return linear(hidden[rows], head, bias), linear(other_hidden[rows], other_head, other_bias)


def _add(found: list[Any], d: Tensor, rows: Tensor, hidden: Tensor, head: Tensor) -> None:
    """Add the gradients of some rows, given dL/dr (m,V), to those of states, head and bias that are asked for."""
    if found[0] is not None:
        found[0][rows] = (d @ head).to(found[0].dtype)
    if found[1] is not None:
        states = hidden[rows].to(found[1].dtype)
        found[1].addmm_(d.to(found[1].dtype).t(), states)
    if found[2] is not None:
        found[2] += d.sum(0, dtype=found[2].dtype)


def _check(hidden, head, other_hidden, other_head, temperature, banned) -> None:
    vocabulary = head.shape[0]
    if hidden.dim() != 2 or head.dim() != 2 or hidden.shape[1] != head.shape[1]:
        raise ValueError(f"hidden must be (M,D) and head (V,D), not {tuple(hidden.shape)} and {tuple(head.shape)}")
    if len(other_hidden) != len(hidden) or other_head.shape[0] != vocabulary:
        raise ValueError(
            f"both models must have the same rows and vocabulary, not {tuple(other_hidden.shape)} and "
            f"{tuple(other_head.shape)} beside {tuple(hidden.shape)} and {tuple(head.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, not {temperature}")
    if banned and not (min(banned) >= 0 and max(banned) < vocabulary and len(set(banned)) < vocabulary):
        raise ValueError(f"banned ids must lie in [0, {vocabulary}) and leave some id: {sorted(banned)[:8]}")


def _check_logits(head: Tensor, biases: Sequence[Tensor | None], softcaps: Sequence[float | None]) -> None:
    for bias in biases:
        if bias is not None and bias.shape != head.shape[:1]:
            raise ValueError(f"a bias must have one entry per id ({head.shape[0]}), not {tuple(bias.shape)}")
    for softcap in softcaps:
        if softcap is not None and not softcap > 0:
            raise ValueError(f"softcap must be positive, not {softcap}")
