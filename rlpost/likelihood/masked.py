"""Likelihood of masked-diffusion language models: each token at its place, from contexts in which it is masked."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlpost.errors import ConfigError, ModelError
from rlpost.likelihood.scoring import Likelihood, Rows, mask_token, seeded

TEXT = {"input_ids", "attention_mask", "position_ids"}


@seeded
def masked(model: Any, rows: Rows, *, low: float = 0.2, high: float = 0.8) -> Likelihood:
    """Three views of a row: all of it masked, some of it, the rest of it; each token is scored exactly twice.

    Equation:
        from the row's seed: t ~ U(low, high), u_j ~ U(0, 1), M = {j: u_j < t}
        p(S)_j = log pi(y_j | x, y outside S), the tokens of S replaced by the mask
        logp_j = (p(all)_j + [j in M] p(M)_j / t + [j not in M] p(not M)_j / (1 - t)) / 2
        entropy_j: the mean of the token's two entropies
    Edge cases:
        The prompt is always seen, and so are tokens of a completion that do not train (another author's): they are
        context. A row without a seed is refused: current, old and reference policy would look at other masks. Below the
        mask sit the temperature and the suppressed ids of sampling. The three views pass the model as one batch of
        three times the rows. `logp` is an estimate weighted by 1 / t, not a log-probability: it may lie below or above
        what the model gives the token anywhere.
    Paper: DiffuCoder: Understanding and Improving Masked Diffusion Models for Code Generation, arXiv:2506.20639, and
        its code. Assumed: t is drawn per row, where the code draws one per batch; logits stand at the token's own place
        (LLaDA), where DiffuCoder's are shifted by one.
    """
    _refuse_bounds(low, high)
    share, inside = _draws(rows, low, high, 0)
    return _estimate(model, rows, [(inside, 1 / share), (~inside, 1 / (1 - share))])


@seeded
def masked_apart(model: Any, rows: Rows, *, low: float = 0.2, high: float = 0.8) -> Likelihood:
    """Three views of a row with two masks that do not know of each other: what `masked` is compared with.

    Equation:
        from the row's seed, twice: t_k ~ U(low, high), u_kj ~ U(0, 1), M_k = {j: u_kj < t_k}
        logp_j = (p(all)_j + [j in M_1] p(M_1)_j / t_1 + [j in M_2] p(M_2)_j / t_2) / 2, p as in `masked`
        entropy_j: the mean of the token's entropies over the views that mask it
    Edge cases:
        As in `masked`; a token may be in both masks or in none.
    Paper: DiffuCoder, arXiv:2506.20639: the baseline of its ablation.
    """
    _refuse_bounds(low, high)
    draws = [_draws(rows, low, high, k) for k in (0, 1)]
    return _estimate(model, rows, [(inside, 1 / share) for share, inside in draws])


def _estimate(model: Any, rows: Rows, parts: Sequence[tuple[Bool[Tensor, "N T"], Float[Tensor, "N 1"]]]) -> Likelihood:
    """The estimate from the view in which all is masked and from `parts`: what each masks, and its weight."""
    foreign = set(rows.inputs) - TEXT
    if foreign:
        raise ModelError(f"a masked likelihood reads text only, and these rows come with {', '.join(sorted(foreign))}")
    ask, ids = rows.ask, rows.inputs["input_ids"]
    start = ids.shape[1] - ask.mask.shape[1]
    tokens = ids[:, start:]
    views = torch.stack([ask.mask, *(inside & ask.mask for inside, _ in parts)])
    shown = torch.where(views, mask_token(model), tokens)
    inputs = {name: value.repeat(len(views), 1) for name, value in rows.inputs.items()}
    inputs["input_ids"] = torch.cat([ids[:, :start].repeat(len(views), 1), shown.flatten(0, 1)], 1)
    asked = replace(ask, mask=views.flatten(0, 1), shift=0, targets=tokens.expand_as(views)[views])
    found = model(**inputs, ask=asked)

    def table(values: Tensor) -> Tensor:
        return torch.zeros(views.shape, dtype=values.dtype, device=values.device).masked_scatter(views, values)

    seen = views.sum(0).clamp(min=1)
    logp = table(found.logp)
    weighted = sum((logp[k] * weight.to(logp) for k, (_, weight) in enumerate(parts, 1)), logp[0])
    divergence = None if found.divergence is None else table(found.divergence).sum(0) / seen
    return Likelihood(weighted / 2, table(found.entropy).sum(0) / seen, divergence, found.hidden)


def _draws(rows: Rows, low: float, high: float, k: int) -> tuple[Float[Tensor, "N 1"], Bool[Tensor, "N T"]]:
    """The share of each row's `k`-th mask and the mask; a row's do not depend on the rows beside it or on padding."""
    width, seeds = rows.ask.mask.shape[1], rows.ask.seeds
    if len(seeds) != len(rows.ask.mask):
        raise ConfigError(
            "a masked likelihood draws its masks from a seed per row, which only rollouts of `rlpost grpo` have; "
            "demonstrations and pairs need likelihood=causal and a model that reads left to right"
        )
    shares, inside = [], []
    for seed in seeds:
        rng = random.Random(f"{seed}/{k}")
        shares.append(rng.uniform(low, high))
        inside.append([rng.random() < shares[-1] for _ in range(width)])
    device = rows.ask.mask.device
    share = torch.tensor(shares, dtype=torch.float64, device=device)[:, None]
    return share, torch.tensor(inside, dtype=torch.bool, device=device).reshape(len(seeds), width)


def _refuse_bounds(low: float, high: float) -> None:
    if not 0 < low <= high < 1:
        raise ConfigError(
            f"likelihood.low={low:g} and likelihood.high={high:g} bound a share that is masked: 0 < low <= high < 1"
        )
