"""The step as two pure functions: `score` turns rollouts into credit, `loss` turns a micro-batch into a scalar.

`loss = sum_terms coef * sum(W_term * M * value_term)`: the objective and each regularizer are terms with their own
coefficient and token weights W; M is the product of the no-gradient token weights. Counts span the whole optimizer step
on all ranks, so the gradient does not depend on how the step was cut into micro-batches or ranks.

A coefficient that reads `mean` depends on its own term's mean over the whole step (a hinge). Then the step has two
phases: `measure` without a gradient on every micro-batch, summed over all of them and all ranks, then `loss`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.fields import call, is_regression, needed, reads
from rlpost.schedule import bind
from rlpost.types import NK, Counts, Estimate, Loss, Scored, TokenBatch, nan_to

# A number, a schedule of (step, progress), or a function of the term's mean over the step.
Coefficient = float | Callable[..., float]


@dataclass(frozen=True)
class Term:
    """One addend of the loss. `aggregate` None means: the method's own aggregate."""

    name: str
    loss: Callable[..., Loss]
    coef: Coefficient = 1.0
    aggregate: Callable[..., Tensor] | None = None


@dataclass(frozen=True)
class TokenWeight:
    """A no-gradient factor per token; with `renormalise` it is 0 or 1, and the tokens at 0 leave mask and counts."""

    weigh: Callable[..., Tensor]
    renormalise: bool = False


@dataclass(frozen=True)
class Method:
    """The built picks of a recipe that decide credit and loss."""

    advantage: Callable[..., Tensor] | None
    aggregate: Callable[..., Tensor]
    objective: Term
    regularizer: tuple[Term, ...] = ()
    shaping: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    keep: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    token_weight: Mapping[str, TokenWeight] = field(default_factory=dict)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Objective and regularizers."""
        return (self.objective, *self.regularizer)

    @property
    def measured(self) -> tuple[Term, ...]:
        """The terms whose coefficient depends on their mean over the step; none: the step has a single phase."""
        return tuple(term for term in self.terms if _reads_mean(term.coef))

    @property
    def remembering(self) -> dict[str, Any]:
        """What remembers one step in the next, by its place: an advantage with `observe` and a state."""
        return {"advantage": self.advantage} if hasattr(self.advantage, "observe") else {}

    def scoring_plugins(self) -> list[Callable[..., Any]]:
        """What runs before the micro-batches are cut."""
        credit = [self.advantage] if self.advantage else []
        early = [w.weigh for w in self.token_weight.values() if w.renormalise]
        return [*self.shaping.values(), *self.keep.values(), *credit, *early]

    def loss_plugins(self) -> list[Callable[..., Any]]:
        """What runs on a micro-batch."""
        aggregates = [t.aggregate for t in self.terms if t.aggregate] + [self.aggregate]
        return [*(t.loss for t in self.terms), *aggregates, *(w.weigh for w in self.token_weight.values())]

    def reads(self) -> set[str]:
        """Every field that scoring or the loss reads."""
        return needed([*self.scoring_plugins(), *self.loss_plugins()])


def silent(scored: Scored, method: Method) -> Tensor:
    """(N,) bool: rows of groups that cannot change any weight, so that the model need not look at them.

    Where every term of the loss reads the advantage as a factor, a group whose advantage is 0 everywhere has no
    gradient, and whole groups do not see each other; so the gradient is the same without them, as long as counts still
    have them. A plug-in that looks across groups within a micro-batch says so with an attribute `couples_rows = True`.
    A critic learns from every row.
    """
    active = [t for t in method.terms if callable(t.coef) or t.coef]
    credited = all("advantage" in reads(t.loss) and not is_regression(t.loss) for t in active)
    apart = not any(getattr(_bare(plugin), "couples_rows", False) for plugin in method.loss_plugins())
    if scored.advantage is None or scored.returns is not None or not apart or not credited:
        return torch.zeros(len(scored.group), dtype=torch.bool)
    loud = torch.where(scored.mask, scored.advantage, 0.0).ne(0).any(-1)
    return ~torch.isin(scored.group, scored.group[loud])


def _bare(plugin: Callable[..., Any]) -> Callable[..., Any]:
    return plugin.func if isinstance(plugin, functools.partial) else plugin


class Credit(NamedTuple):
    """What `score` returns: the rows that stay with their advantage, which rows stay, and all rows' shaped rewards."""

    scored: Scored
    keep: Tensor
    shaped: NK


def score(scored: Scored, method: Method, *, step: int = 0, progress: float = 0.0) -> Credit:
    """Shape the rewards, drop the rows that do not stay, and give the others their advantage (N,T).

    Raises ValueError where an advantage has the wrong shape or is not finite, or where a token weight that renormalises
    is neither 0 nor 1.
    """

    def run(plugin: Callable[..., Tensor], record: Scored, **extra: Tensor) -> Tensor:
        return call(bind(plugin, step, progress), record, extra)

    rewards = scored.rewards
    for shape in method.shaping.values():
        rewards = run(shape, scored, rewards=rewards)
    keep = torch.ones(len(rewards), dtype=torch.bool)
    total = weighted_sum(rewards, scored.weights)
    for stays in method.keep.values():
        keep &= run(stays, scored, rewards=rewards, reward=total)
    kept = take(replace(scored, rewards=rewards, reward=total), keep)
    for name, weight in method.token_weight.items():
        if weight.renormalise:
            kept = replace(kept, mask=kept.mask & _zeros_and_ones(run(weight.weigh, kept), kept.mask, name))
    advantage = run(method.advantage, kept) if method.advantage else torch.ones(len(kept.rewards))
    if isinstance(advantage, Estimate):
        kept = replace(kept, returns=advantage.returns)
        advantage = advantage.advantage
    if advantage.dim() == 1:
        advantage = advantage[:, None].expand(kept.mask.shape)
    if advantage.shape != kept.mask.shape:
        raise ValueError(
            f"the advantage has shape {tuple(advantage.shape)}, not (N,) or (N,T) = {tuple(kept.mask.shape)}"
        )
    advantage = torch.where(kept.mask, advantage, 0.0)
    if not torch.isfinite(advantage).all():
        raise ValueError(f"the advantage of rows {_bad_rows(advantage)} is not finite")
    return Credit(replace(kept, advantage=advantage, keep=keep), keep, rewards)


def total_reward(rewards: NK, weights: Tensor) -> Tensor:
    """Weighted sum of the reward columns per row; a column that does not apply (NaN) adds nothing."""
    return nan_to(rewards * weights, 0.0).sum(-1)


def counts(scored: Scored, *, micro_batches: int = 1) -> Counts:
    """What the rows that stay add up to over the whole optimizer step."""
    return Counts(
        rows=len(scored.mask),
        tokens=int(scored.mask.sum()),
        groups=len(torch.unique(scored.group)),
        micro_batches=micro_batches,
        valued=0 if scored.returns is None else int((~torch.isnan(scored.returns)).sum()),
    )


class Summed(NamedTuple):
    """A metric as a sum and a count, so that micro-batches and ranks add up to the exact mean."""

    total: Tensor
    count: Tensor


def measure(
    batch: TokenBatch, method: Method, counts: Counts, *, step: int = 0, progress: float = 0.0
) -> dict[str, Tensor]:
    """This micro-batch's share of the means that coefficients read, by term, without a gradient.

    Their plain sums over the micro-batches of the optimizer step on all ranks are the `means` of `loss`. A mean is
    sum(W * M * value) with the term's own weights and coefficient 1. Empty where `method.measured` is.
    """
    with torch.no_grad():
        pass_ = _Pass(batch, method, counts, step, progress)
        return {term.name: pass_.share(term)[1] for term in method.measured}


def loss(
    batch: TokenBatch,
    method: Method,
    counts: Counts,
    *,
    step: int = 0,
    progress: float = 0.0,
    means: Mapping[str, Tensor | float] | None = None,
) -> tuple[Tensor, dict[str, Summed]]:
    """The scalar of one micro-batch, already divided by the counts of the whole step, and its metrics.

    The gradient of the optimizer step is the plain sum of the micro-batches' gradients. What a field holds outside the
    mask, NaN included, reaches neither value nor gradient. `means` are the sums of `measure`; a coefficient is constant
    in the gradient. Raises ValueError where a coefficient needs a mean that is not there.
    """
    pass_ = _Pass(batch, method, counts, step, progress)
    total, metrics = pass_.batch.logp.sum() * 0.0, {}
    for term in method.terms:
        found, share = pass_.share(term)
        coef = coefficient(term.coef, step, progress, mean=(means or {}).get(term.name), name=term.name)
        total = total + coef * share
        # The parts of a step add up to its loss: together their counts make one.
        part = torch.tensor(1 / max(counts.micro_batches, 1))
        metrics[f"{term.name}/loss"] = Summed((coef * share).detach(), part)
        if callable(term.coef):
            metrics[f"{term.name}/mean"] = Summed(share.detach(), part)  # comparable while the coefficient changes
        if term in method.measured:
            metrics[f"{term.name}/coef"] = Summed(coef * part, part)
        for name, values in found.metrics.items():
            metrics[name] = _summed(values, pass_.batch.mask)
    return total, metrics


class _Pass:
    """A micro-batch on its way through the terms: its masked fields and the product M of the token weights."""

    def __init__(self, batch: TokenBatch, method: Method, counts: Counts, step: int, progress: float):
        self.batch, self.method, self.counts = _masked(batch), method, counts
        self.step, self.progress = step, progress
        self.factor = torch.ones_like(batch.logp).detach()
        for weight in method.token_weight.values():
            if not weight.renormalise:
                with torch.no_grad():
                    self.factor = self.factor * self.run(weight.weigh)

    def run(self, plugin: Callable[..., Any], **extra: Any) -> Any:
        return call(bind(plugin, self.step, self.progress), self.batch, extra)

    def share(self, term: Term) -> tuple[Loss, Tensor]:
        """What the term says, and sum(W * M * value): with all micro-batches it adds up to the mean over the step."""
        found = self.run(term.loss, counts=self.counts)
        weights = self.run(term.aggregate or self.method.aggregate, counts=self.counts)
        mask = self.batch.mask
        value = torch.where(mask, found.value.expand_as(mask), 0.0)
        return found, (value * torch.where(mask, weights * self.factor, 0.0).to(value.dtype)).sum()


def coefficient(
    coef: Coefficient, step: int, progress: float, *, mean: Tensor | float | None = None, name: str = "a term"
) -> float:
    """The value of a coefficient that may be a schedule, or a function of the mean of its term over the step."""
    if not callable(coef):
        return float(coef)
    if not _reads_mean(coef):
        return float(coef(step, progress))
    if mean is None:
        raise ValueError(
            f"the coefficient of {name} depends on the term's mean over the whole step, which was not measured: this "
            "command has no pass for it; give the term a plain coef"
        )
    return float(bind(coef, step, progress)(float(mean)))


def _reads_mean(coef: Coefficient) -> bool:
    return callable(coef) and reads(coef) == ("mean",)


def take(scored: Scored, rows: Tensor) -> Scored:
    """The same record with only the rows where `rows` (bool N, or indices) selects."""
    index = rows.nonzero()[:, 0] if rows.dtype == torch.bool else rows
    picked: dict[str, Any] = {}
    for spec in fields(scored):
        value = getattr(scored, spec.name)
        if spec.name in ("weights", "reward_names", "keep") or value is None:
            continue
        picked[spec.name] = value[index] if isinstance(value, Tensor) else tuple(value[i] for i in index.tolist())
    return replace(scored, **picked)


def _zeros_and_ones(weights: Tensor, mask: Tensor, name: str) -> Tensor:
    other = weights[mask & (weights != 0) & (weights != 1)]
    if len(other):
        raise ValueError(
            f"token_weight.{name} has renormalise: true and gives a token {float(other[0])}; only weights of 0 and 1 "
            "can change the counts, so set renormalise: false"
        )
    return weights != 0


def _masked(batch: TokenBatch) -> TokenBatch:
    """The batch with 0 outside the mask in every float table: 0 * inf in a backward pass would be NaN."""
    tables = {
        name: torch.where(batch.mask, value, 0.0)
        for name, value in vars(batch).items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.shape == batch.mask.shape
    }
    return replace(batch, **tables)


def _summed(values: Tensor, mask: Tensor) -> Summed:
    values = values.detach()
    if values.dim() == 2 and values.shape[1] == mask.shape[1] and mask.shape[1] > 1:
        return Summed(torch.where(mask, values, 0.0).sum(), mask.sum())
    per_row = values if values.dim() == 1 else values[:, 0]
    rows = mask.any(-1) if len(values) == len(mask) else torch.ones_like(per_row, dtype=torch.bool)
    return Summed(torch.where(rows, per_row, 0.0).sum(), rows.sum())


def _bad_rows(values: Tensor) -> list[int]:
    return (~torch.isfinite(values)).any(-1).nonzero()[:, 0].tolist()[:5]
