"""The clipped surrogate family: one pessimistic minimum, three ideas of what the ratio is."""

import torch
from torch import Tensor

from rlpost.masked import row_mean, row_sum
from rlpost.objective.ratio import bounded, ratio
from rlpost.types import NT, Loss, Mask


def ppo_clip(logp: NT, old_logp: NT, advantage: NT, *, clip_low: float = 0.2, clip_high: float = 0.2) -> Loss:
    """Clipped surrogate with one ratio per token, as in PPO, GRPO and DAPO.

    Equation:
        r = exp(logp - old_logp)
        value = -min(r * advantage, clip(r, 1 - clip_low, 1 + clip_high) * advantage)

    Reduces to:
        -advantage as gradient with respect to logp when logp equals old_logp; DAPO's objective when clip_high is 0.28.

    Edge cases:
        log-ratios are bounded at +-20 nats before exp; the gradient is zero beyond.

    Paper:
        Proximal Policy Optimization Algorithms, arXiv 1707.06347, eq. 7.
        Decoupled clips: DAPO, arXiv 2503.14476, section 3.1.
    """
    return _pessimistic(ratio(logp, old_logp), advantage, clip_low, clip_high)


def gspo(logp: NT, old_logp: NT, advantage: NT, mask: Mask, *, clip_low: float = 3e-4, clip_high: float = 4e-4) -> Loss:
    """Clipped surrogate with one ratio per sequence: the geometric mean of the token ratios.

    Equation:
        s = exp(mean_t(logp - old_logp)) over the tokens where mask
        value = -min(s * advantage, clip(s, 1 - clip_low, 1 + clip_high) * advantage)

    Reduces to:
        ppo_clip at equal clips when a row has one token, or when all its log-ratios are equal.

    Edge cases:
        With the aggregate row_mean the loss is the paper's. Credit that varies within a row is clipped per token by its
        sign. A row without tokens has s = 1. The mean log-ratio is bounded at +-20 nats.

    Paper:
        Group Sequence Policy Optimization, arXiv 2507.18071, eq. 5 to 7; clips from section 5.1.
    """
    s = torch.exp(bounded(row_mean(logp - old_logp, mask))).unsqueeze(-1)
    return _pessimistic(s, advantage, clip_low, clip_high)


def sequence_clip(
    logp: NT, old_logp: NT, advantage: NT, mask: Mask, *, clip_low: float = 0.2, clip_high: float = 0.2
) -> Loss:
    """Clipped surrogate with the probability ratio of the whole completion, as TRL's RLOO trainer has it.

    Equation:
        s = exp(sum_t(logp - old_logp)) over the tokens where mask
        value = -min(s * advantage, clip(s, 1 - clip_low, 1 + clip_high) * advantage)

    Reduces to:
        REINFORCE with a baseline when logp equals old_logp: the gradient with respect to each logp is -advantage.

    Edge cases:
        log-ratios are bounded at +-20 nats before exp; a long completion leaves the clip range after small changes.

    Paper:
        Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740; the clip is TRL 1.16's.
    """
    s = torch.exp(bounded(row_sum(logp - old_logp, mask))).unsqueeze(-1)
    return _pessimistic(s, advantage, clip_low, clip_high)


def _pessimistic(r: Tensor, advantage: NT, clip_low: float, clip_high: float) -> Loss:
    clipped = r.clamp(1 - clip_low, 1 + clip_high)
    value = -torch.minimum(r * advantage, clipped * advantage)
    metrics = {
        "ratio": r.detach(),
        "clip_low": ((r < 1 - clip_low) & (advantage < 0)).float(),
        "clip_high": ((r > 1 + clip_high) & (advantage > 0)).float(),
    }
    return Loss(value, metrics)
