"""Shaping by whether a right answer follows from what was written before it."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from rlpost.advantage.total import add_to_total
from rlpost.errors import ConfigError
from rlpost.masked import group_mean, row_mean
from rlpost.types import NK, NT, Ids, K


def consistency_bonus(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    ref_logp: NT,
    span: Int[Tensor, "N T"],
    *,
    reward: str = "correct",
    bonus: float = 0.5,
    margin: float = 0.01,
    ceiling: float = 0.95,
    threshold: float = 0.1,
) -> NK:
    """Right answers that a slow reference finds likely after their own reasoning earn a bonus (GRPO-CARE).

    Equation:
        c_i = min(exp(mean of ref_logp over the tokens of span 0), ceiling): the answer's likelihood under the reference
        H = rows of the group with r_i > threshold and r_i >= mean_group(r), r the column `reward`
        sum_k w_k r_k grows by bonus * r_i  where  i in H  and  c_i >= mean_H(c) - margin
    Reduces to:
        the rewards unchanged when bonus is 0.
    Edge cases:
        A row without a marked answer has c = 0 (the published code gives it 1, a bonus for no answer). An empty H earns
        nothing; a single right row always earns it. Rows to which `reward` does not apply are left out of H and means.

    Paper:
        GRPO-CARE, arXiv 2506.16141: bonus 0.5, margin 0.01 (0 in domain), ceiling 0.95; thresholds from its code.
    """
    if reward not in reward_names:
        raise ConfigError(f"shaping consistency_bonus names the reward {reward!r}; this run has {list(reward_names)}.")
    r = rewards[:, list(reward_names).index(reward)]
    answer = span == 0
    likely = row_mean(ref_logp, answer).exp().clamp(max=ceiling)
    c = torch.where(answer.any(-1), likely, 0.0).to(rewards.dtype)
    high = (r > threshold) & (r >= group_mean(r, group))
    bar = group_mean(torch.where(high, c, torch.nan), group)
    earns = high & (c >= bar - margin)
    return add_to_total(rewards, weights, torch.where(earns, bonus * r, 0.0))
