"""Estimators that add an exploration bonus to a finished advantage, where normalisation cannot change its size."""

from collections.abc import Sequence

import torch

from rlpost.advantage.group import group_zscore
from rlpost.errors import ConfigError
from rlpost.types import NK, Ids, K, N, nan_to


def zscore_plus_bonus(
    rewards: NK,
    weights: K,
    group: Ids,
    reward_names: Sequence[str],
    *,
    columns: tuple[str, ...] = ("answer_ucb",),
    coef: float = 0.1,
    epsilon: float = 1e-4,
) -> N:
    """GRPO's advantage of the other rewards, plus a bonus that is not normalised (outcome-based exploration).

    Equation:
        advantage = (r - mean_group) / (std_group + epsilon) + coef * B
        r = sum_k w_k r_k over the other columns, B = sum of `columns`
    Reduces to:
        group_zscore of the other columns when coef is 0.
    Edge cases:
        Equal rewards in a group leave the bonus alone, so an unsolved prompt keeps exploring. Weights of `columns` are
        not read; their options have 0, which keeps them out of the reward that is logged. A bonus that does not apply
        adds 0.

    Paper:
        Outcome-based Exploration for LLM Reasoning, arXiv 2509.06941. Assumed: coef 0.1, swept there from 0.1 to 0.2.
    """
    names = list(reward_names)
    unknown = [name for name in columns if name not in names]
    if unknown or len(columns) == len(names):
        why = f"names {unknown[0]!r}, which is none" if unknown else "leaves no reward"
        raise ConfigError(f"advantage zscore_plus_bonus {why} of this run's rewards besides the bonus; it has {names}.")
    extra = torch.tensor([name in columns for name in names])
    plain = group_zscore(rewards[:, ~extra], weights[~extra], group, epsilon=epsilon)
    return plain + coef * nan_to(rewards[:, extra], 0.0).sum(-1)
