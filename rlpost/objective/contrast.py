"""Right against wrong within a group: a score of each row, no advantage and no clip."""

import torch

from rlpost.masked import group_count, group_logmeanexp, group_mean, row_mean
from rlpost.objective.labels import labels
from rlpost.objective.ratio import ratio
from rlpost.types import NT, Ids, Loss, Mask, N


def disco(logp: NT, mask: Mask, reward: N, group: Ids, *, tau: float | None = 10.0, threshold: float = 0.5) -> Loss:
    """Raise the scores of right rows over those of wrong ones, the hardest wrong ones most (DisCO).

    Equation:
        s = mean_t logp;  right: reward > threshold, wrong: the other rows of the group
        J = mean_right s - tau * log(mean_wrong exp(s / tau))
        value = -J, the same for every row of the group

    Reduces to:
        DisCO-b, J = mean_right s - mean_wrong s, for tau=None and for tau -> infinity.

    Edge cases:
        A group that is all right or all wrong, or a row alone in its group: value 0 without a gradient, counted in the
        mean over groups as published. A row without a reward (NaN) or without tokens is neither right nor wrong.
        The aggregate group_mean gives each question the same weight whatever its number of rows.

    Paper:
        DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained Optimization, arXiv 2505.12366.
        Assumed: right is a total reward above threshold; the published code takes rewards of exactly 1 and 0.
    """
    return _contrast(row_mean(logp, mask), labels(reward, mask, threshold), group, tau)


def disco_ratio(
    logp: NT, old_logp: NT, mask: Mask, reward: N, group: Ids, *, tau: float | None = 1.0, threshold: float = 0.5
) -> Loss:
    """DisCO with the mean probability ratio of a row as its score instead of the mean log-likelihood.

    Equation:
        s = mean_t exp(logp - old_logp);  J and value as in disco

    Reduces to:
        disco's gradient when logp equals old_logp and tau is None in both.

    Edge cases:
        As disco. Log-ratios are bounded at +-20 nats before exp; the gradient is zero beyond.

    Paper:
        DisCO, arXiv 2505.12366.
        Assumed: tau 1 as in the published scripts; the published code runs the form without tau (tau=None) under this
        name.
    """
    return _contrast(row_mean(ratio(logp, old_logp), mask), labels(reward, mask, threshold), group, tau)


def _contrast(score: N, label: N, group: Ids, tau: float | None) -> Loss:
    right, wrong = torch.where(label == 1, score, torch.nan), torch.where(label == 0, score, torch.nan)
    against = group_mean(wrong, group) if tau is None else tau * group_logmeanexp(wrong / tau, group)
    mixed = (group_count(right, group) > 0) & (group_count(wrong, group) > 0)
    contrast = torch.where(mixed, group_mean(right, group) - against, 0.0)
    return Loss(-contrast.unsqueeze(-1), {"contrast": contrast.detach(), "mixed": mixed.float()})
