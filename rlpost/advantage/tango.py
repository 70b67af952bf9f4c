"""Credit for two policies that teach each other: a generator whose steps are judged, and the verifier that judges."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlpost.advantage.group import group_zscore
from rlpost.errors import ConfigError
from rlpost.masked import group_mean, group_std
from rlpost.spans import NSK, Span, row_rewards, spread, suffix_sum, weighted_spans
from rlpost.types import NK, NT, Ids, K, Mask, N


def tango(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    group: Ids,
    span: Span,
    mask: Mask,
    *,
    share: float = 0.5,
    epsilon: float = 1e-4,
) -> NT:
    """Mix a completion's outcome with the scores of the steps that a token leads to (RL Tango's generator).

    Equation:
        A_out = group_zscore of the rewards that score the row
        s_k = sum_j w_j r_{k,j} over the rewards that score step k
        s~ = (s - mean) / (std + epsilon) over all scored steps of all rows of the group, std that of the population
        advantage of a token of step k = (1 - share) * A_out + share * sum_{l >= k} s~_l

    Reduces to:
        group_zscore for share 0.

    Edge cases:
        Steps without a score leave the pool, so that a row without any has (1 - share) * A_out alone, as has a token in
        no step. Equal scores of all steps of a group: 0. Where the pool's mean is above 0, more steps of the same kind
        make the first ones worth less, below 0 more.

    Paper:
        RL Tango: Reinforcing Generator and Verifier Together for Language Reasoning, arXiv 2505.15034.
        Assumed: the deviation of the steps is the population's, that of the outcomes the sample's, as in GRPO here.
    """
    outcome = group_zscore(row_rewards(rewards, span_rewards), weights, group, epsilon=epsilon)
    scores = weighted_spans(span_rewards, weights)
    pool, steps = scores.flatten(), group[:, None].expand(scores.shape).flatten()
    scaled = (pool - group_mean(pool, steps)) / (group_std(pool, steps, ddof=0) + epsilon)
    returns = suffix_sum(torch.nan_to_num(scaled, nan=0.0).view(scores.shape))
    return (1 - share) * outcome[:, None] + share * spread(returns, span, mask)


class ClassBalanced:
    """GRPO's advantage times a weight of the row's class, so that a rare class is heard (RL Tango's verifier).

    The reward `label`, which should have weight 0, says the class of a row with 0 or 1.

    Equation:
        n_c = rows of class c in the step; s_c proportional to 1 / sqrt(n_c), its mean over the rows being 1
        sbar_c = momentum * sbar_c + (1 - momentum) * s_c, in the first step s_c
        advantage = group_zscore * sbar_c

    Reduces to:
        group_zscore when both classes are as frequent in every step, or one alone ever occurs.

    Edge cases:
        A class that a step lacks keeps its average; a new one starts with s_c. A row without a label has weight 1.

    Paper:
        RL Tango, arXiv 2505.15034. Assumed: momentum 0.9; the average is over steps of the verifier, this one included.
    """

    def __init__(self, *, label: str = "outcome", momentum: float = 0.9, epsilon: float = 1e-4) -> None:
        if not 0 <= momentum < 1:
            raise ConfigError(f"advantage class_balanced needs a momentum from 0 to below 1, not {momentum:g}")
        self.label, self.momentum, self.epsilon = label, momentum, epsilon
        self.average: dict[str, float] = {}

    def __call__(self, rewards: NK, weights: K, group: Ids, reward_names: tuple[str, ...]) -> N:
        labels = self._labels(rewards, reward_names)
        average = self._with(labels)
        factor = torch.ones_like(labels)
        for name, value in average.items():
            factor[labels == float(name)] = value
        return group_zscore(rewards, weights, group, epsilon=self.epsilon) * factor

    def observe(self, rewards: NK, reward_names: Sequence[str]) -> None:
        """Take a step's rows into the averages; a step may be weighed more than once before."""
        self.average = self._with(self._labels(rewards, reward_names))

    def state_dict(self) -> dict[str, Any]:
        """The average weight of each class."""
        return {"average": dict(self.average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.average = dict(state["average"])

    def _labels(self, rewards: NK, reward_names: Sequence[str]) -> N:
        if self.label not in reward_names:
            raise ConfigError(
                f"advantage class_balanced takes classes from reward.{self.label}; this run has {list(reward_names)}"
            )
        return rewards[:, list(reward_names).index(self.label)]

    def _with(self, labels: Tensor) -> dict[str, float]:
        found, counts = torch.unique(labels[~torch.isnan(labels)], return_counts=True)
        sizes = counts.double()
        now = sizes.sum() / sizes.sqrt().sum() / sizes.sqrt()
        average = dict(self.average)
        for name, value in zip((f"{one:g}" for one in found.tolist()), now.tolist(), strict=True):
            average.setdefault(name, value)
            average[name] = self.momentum * average[name] + (1 - self.momentum) * value
        return average
