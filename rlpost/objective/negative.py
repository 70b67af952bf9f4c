"""Learning from wrong answers by likelihood: an implicit negative policy stands for what is wrong."""

from typing import Literal

import torch

from rlpost.masked import group_mean
from rlpost.objective.labels import labels
from rlpost.types import NT, Ids, Loss, Mask, N

LOG_RATIO = 10.0
RATE = (0.02, 0.98)


def nft(
    logp: NT,
    old_logp: NT,
    mask: Mask,
    reward: N,
    group: Ids,
    *,
    epsilon: float = 1.0,
    negative_weight: float = 1.0,
    scale: Literal["centred", "standardised", "none"] = "centred",
    threshold: float = 0.5,
) -> Loss:
    """Maximum likelihood on right rows, and on wrong ones of the policy that is left when the right part is taken out.

    Equation:
        R = exp(logp - old_logp);  r = share of right rows in the group
        right: value = -w * log R;  wrong: value = -w * negative_weight * log max(v, epsilon), v = (1 - r R) / (1 - r)
        w = 1 - r (centred), sqrt((1 - r) / r) (standardised), 1 (none)

    Gradient:
        max(v, epsilon) passes the gradient of v: for a wrong row w * negative_weight * r R / ((1 - r) max(v, epsilon))
        with respect to logp, also where epsilon holds the value.

    Reduces to:
        On policy (R = 1, epsilon <= 1): the gradient -(y - r) of Dr. GRPO (group_centred) for centred, and
        -(y - r) / sqrt(r (1 - r)) of GRPO for standardised. Rejection fine-tuning for negative_weight 0.

    Edge cases:
        A group that is all right or all wrong, a row alone in its group, or without a reward (NaN): value 0 without a
        gradient; keep mixed_groups takes such groups out of the counts. r is held within 0.02 and 0.98. Log-ratios are
        bounded at 10 nats above; the gradient is zero beyond.

    Paper:
        Bridging Supervised Learning and Reinforcement Learning in Math Reasoning (NFT), arXiv 2505.18116.
        Assumed: right is a total reward above threshold; epsilon 1 as in the published script.
    """
    label = labels(reward, mask, threshold).unsqueeze(-1)
    share = group_mean(label[:, 0], group).unsqueeze(-1)
    r = share.clamp(*RATE)
    weight = {"centred": 1 - r, "standardised": ((1 - r) / r).sqrt(), "none": torch.ones_like(r)}[scale]
    log_ratio = (logp - old_logp).clamp(max=LOG_RATIO)
    v = (1 - r * log_ratio.exp()) / (1 - r)
    held = v.detach().clamp(min=epsilon)
    # The second addend is 0 and carries the gradient of v past the bound.
    against = -held.log() - (v - v.detach()) / held
    value = weight * torch.where(label == 1, -log_ratio, negative_weight * against)
    counted = (share > 0) & (share < 1) & ~torch.isnan(label)
    metrics = {
        "ratio": log_ratio.detach().exp(),
        "held": ((v.detach() < epsilon) & (label == 0)).float(),
        "correct_rate": share[:, 0],
    }
    return Loss(torch.where(counted, value, 0.0), metrics)
