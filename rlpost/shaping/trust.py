"""Shaping that believes a judge as far as its scores agree with the outcomes."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool

from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_mean
from rlpost.types import NK, Ids, N


def trust(
    rewards: NK,
    reward_names: Sequence[str],
    group: Ids,
    *,
    judged: str = "thinking_judge",
    outcome: str = "correct",
    alpha: float = 0.3,
    threshold: float = 0.5,
    judge_wrong_answers: bool = True,
) -> NK:
    """Scale a judge's reward down in groups where it prefers the wrong completions (Trust-GRPO).

    Equation:
        C = rows of the group with r_outcome >= threshold, W = the others
        gamma = min(1, exp(mean_C r_judged - mean_W r_judged))
        r_judged becomes alpha * gamma * r_judged
    Reduces to:
        a judge's reward of weight alpha when gamma is 1.
    Edge cases:
        gamma is 1 where C or W is empty. Rows without an outcome (NaN) are in neither, and are scaled alike; without a
        judgement (NaN) a row is in neither mean and stays NaN. alpha may be a schedule: the option's decays. With
        judge_wrong_answers false, as in the published code, r_judged is 0 where r_outcome < 0.2, and in groups where
        all outcomes are at least 0.9, or at most 0.1.

    Paper:
        SophiaVL-R1, arXiv 2505.17018: alpha 0.3, decaying by exp(-step / 500).
        Assumed: wrong completions are judged too, as the paper's equation has it. With its code's judgement of 0 for
        them gamma is 1 wherever outcomes are 0 and 1. That code does not ask the judge about groups that are all right
        or all wrong; here it is asked.
    """
    names = list(reward_names)
    unknown = [name for name in (judged, outcome) if name not in names]
    if unknown:
        raise ConfigError(f"shaping trust names the reward {unknown[0]!r}, which this run lacks; it has {names}.")
    verdict, reached = rewards[:, names.index(judged)], rewards[:, names.index(outcome)]
    if not judge_wrong_answers:
        verdict = torch.where(_unjudged(reached, group) & ~torch.isnan(verdict), 0.0, verdict)
        rewards = rewards.clone()
        rewards[:, names.index(judged)] = verdict
    right = torch.where(reached >= threshold, verdict, torch.nan)
    wrong = torch.where(reached < threshold, verdict, torch.nan)
    both = (group_count(right, group) > 0) & (group_count(wrong, group) > 0)
    gap = group_mean(right, group) - group_mean(wrong, group)
    gamma = torch.where(both, gap, 0.0).clamp(max=0).exp()
    column = torch.tensor([name == judged for name in names], device=rewards.device)
    return torch.where(column, rewards * (alpha * gamma).unsqueeze(-1), rewards)


def _unjudged(reached: N, group: Ids) -> Bool[torch.Tensor, "N"]:
    """Rows that the published code gives no judgement: wrong ones, and all of a group without a contrast."""
    known = ~torch.isnan(reached)
    high, low = (torch.where(known, one.to(reached.dtype), torch.nan) for one in (reached >= 0.9, reached <= 0.1))
    alike = (group_mean(high, group) == 1) | (group_mean(low, group) == 1)
    return (reached < 0.2) | (alike & known)
