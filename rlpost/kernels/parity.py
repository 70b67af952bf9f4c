"""Whether two layouts of the same rows agree, by log-probabilities and by gradients: either alone can miss a fault."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlpost.kernels.prefix import key
from rlpost.likelihood.scoring import Rows
from rlpost.models.unwrap import unwrap
from rlpost.types import Prompt

# Tokens of a completion that are looked at, and parameters whose gradients are compared.
TOKENS, PARAMETERS = 48, 12
# Largest mean difference of log-probabilities (nats) and largest relative difference of gradients by precision. A wrong
# mask, position or missing gradient is off by more than 0.3 in one of the two.
LIMITS = {torch.float64: 1e-5, torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.1}


class Gap(NamedTuple):
    """Mean absolute difference of log-probabilities in nats; norm of the gradients' difference over their norm."""

    logp: float
    gradient: float

    def problem(self, dtype: torch.dtype) -> str | None:
        """A sentence where the gap is more than rounding; NaN is."""
        limit = LIMITS.get(dtype, 0.1)
        if self.logp <= limit and self.gradient <= limit:
            return None
        return (
            f"a shared prompt changes log-probabilities by {self.logp:.2g} nats and gradients by {self.gradient:.2g} "
            f"of their norm, more than {limit:g}"
        )


def pair(
    prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], mask: Tensor
) -> list[tuple[int, list[int]]] | None:
    """Two rows with a common prompt, with the start of their completions; None without two."""
    seen: dict[Any, int] = {}
    for row, prompt in enumerate(prompts):
        if len(completions[row]) < 2 or not mask[row, 1:TOKENS].any():
            continue
        other = seen.setdefault(key(prompt), row)
        if other != row:
            return [(i, list(completions[i][:TOKENS])) for i in (other, row)]
    return None


def gap(model: Any, likelihood: Callable[..., Any], one: Rows, two: Rows) -> Gap:
    """How far two layouts of the same rows are apart; leaves no gradient and no random number behind."""
    inner = unwrap(model)
    trained = [p for p in inner.parameters() if p.requires_grad]
    # An odd step, since adapters alternate: the gradient of every A is 0 while every B is.
    for some in (trained[:: -(-len(trained) // PARAMETERS) | 1], trained):
        (logp, grads), (other, others) = (_scores(inner, likelihood, rows, some) for rows in (one, two))
        # A missing gradient counts as zero, so one that is missing on one side alone shows.
        pairs = [(_or_zero(a, p), _or_zero(b, p)) for a, b, p in zip(grads, others, some, strict=True)]
        norm = sum(float(b.pow(2).sum()) for _, b in pairs) ** 0.5
        if norm:
            break  # zeros prove nothing: all parameters are looked at then
    difference = float((logp - other)[one.ask.mask].abs().mean())
    apart = sum(float((a - b).pow(2).sum()) for a, b in pairs) ** 0.5
    return Gap(difference, apart / norm if norm else apart)


def _scores(model: Any, likelihood: Callable[..., Any], rows: Rows, some: Sequence[Tensor]) -> tuple[Tensor, Any]:
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(rows.ask.mask.shape, generator=draw).to(rows.ask.mask.device)
    with torch.enable_grad():
        found = likelihood(model, rows)
        loss = (torch.where(rows.ask.mask, found.logp, 0.0) * weights).sum()
        grads = torch.autograd.grad(loss, some, allow_unused=True) if some else ()
    return found.logp.detach().float(), grads


def _or_zero(grad: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.float32) if grad is None else grad.float()
