"""Reward prediction as the objective: the policy's own log-ratios are the scores that must tell right from wrong."""

from typing import Literal

import torch
from torch.nn.functional import softplus

from rlpost.masked import group_count, group_sum, leave_one_out_mean, row_sum
from rlpost.objective.labels import labels
from rlpost.types import NT, Ids, Loss, Mask, N


def pacs(
    logp: NT,
    old_logp: NT,
    mask: Mask,
    reward: N,
    group: Ids,
    *,
    beta: float = 1.0,
    weights: Literal["balanced", "none", "only_positive", "only_negative"] = "balanced",
    threshold: float = 0.5,
) -> Loss:
    """Logistic loss on right or wrong, with a row's log-ratio over that of the other rows as the logit (PACS).

    Equation:
        s = beta * sum_t(logp - old_logp);  psi_i = s_i - mean of s_j over j != i in the group
        value = w * (log(1 + exp(psi)) - y * psi), y = 1 for a right row and 0 for a wrong one
        w = n / (2 n_y) with n_y rows of the same label among the n of the group (balanced), 1 if all are alike

    Gradient:
        Flows through the scores of all rows of the group, the leave-one-out mean included.

    Reduces to:
        On policy psi = 0: the group's sum has the gradient w_i (1/2 - y_i) minus the mean of w_j (1/2 - y_j) over the
        other rows, with respect to s_i: a policy gradient with centred labels.

    Edge cases:
        A group that is all right or all wrong has w = 1: on policy its gradients cancel, off policy they do not. A row
        alone in its group has psi = s. A row without a reward (NaN) or without tokens has value 0 and is in no mean.

    Paper:
        PACS: Implicit Actor Critic Coupling via a Supervised Learning Framework for RLVR, arXiv 2509.02522.
        Assumed: right is a total reward above threshold, where the published code takes the score itself as y.
    """
    y = labels(reward, mask, threshold)
    known = ~torch.isnan(y)
    score = torch.where(known, beta * row_sum(logp - old_logp, mask), torch.nan)
    psi = torch.where(known, score - leave_one_out_mean(score, group), 0.0)
    y = torch.where(known, y, 0.0)
    n, right = group_count(score, group), group_sum(y, group)
    alike = torch.where(y == 1, right, n - right)
    weight = {
        "balanced": torch.where(alike < n, n / (2 * alike.clamp(min=1)), 1.0),
        "none": torch.ones_like(y),
        "only_positive": y,
        "only_negative": 1 - y,
    }[weights]
    value = torch.where(known, weight * (softplus(psi) - y * psi), 0.0)
    found = torch.where(known, ((psi > 0) == (y == 1)).to(psi.dtype), 0.0)
    return Loss(value.unsqueeze(-1), {"psi": psi.detach(), "told_apart": found.detach()})
