"""Distillation from a teacher on the policy's own completions, as terms beside the objective."""

import torch

from rlpost.masked import group_sum
from rlpost.objective.ratio import ratio
from rlpost.types import NT, Ids, Loss, N


def teacher_k2(logp: NT, old_logp: NT, teacher_logp: NT, *, limit: float = 10.0) -> Loss:
    """Half the squared log-ratio to a teacher: on policy its gradient is that of KL(policy || teacher).

    Equation:
        d = min(logp - teacher_logp, limit)
        value = r * d^2 / 2, with r = exp(logp - old_logp) as a weight

    Gradient:
        r * d with respect to logp; r is detached, and beyond the limit the pull stays at the limit.

    Reduces to:
        regularizer kl_k2 towards the teacher when logp equals old_logp and d is below the limit.

    Edge cases:
        The teacher's log-probability may be -inf: d is the limit. A token that the policy never samples is not taught.
        k1 as a loss (logp - teacher_logp) would teach nothing: its expected gradient is 0.

    Paper:
        KDRL, arXiv 2506.02208. Assumed: the weight r for updates after the first of a batch, without which the squared
        log-ratio is biased there; a limit of 10 nats.
    """
    d = (logp.detach() - teacher_logp).clamp(max=limit)
    value = ratio(logp.detach(), old_logp) * (d**2 / 2 + d * (logp - logp.detach()))
    return Loss(value, {"teacher_gap": d})


def teacher_k3(logp: NT, old_logp: NT, teacher_logp: NT, *, limit: float = 10.0) -> Loss:
    """Schulman's k3 to a teacher: on policy its gradient is that of KL(teacher || policy), the forward direction.

    Equation:
        d = logp - teacher_logp
        value = r * (exp(-d) - 1 + d), with r = exp(logp - old_logp) as a weight

    Gradient:
        r * (1 - exp(-d)) with respect to logp; r is detached, and d is held within +-limit.

    Reduces to:
        teacher_k2 where d is small.

    Edge cases:
        A token that the policy never samples is not taught, so the mean of samples is the forward KL only where the
        policy covers the teacher.

    Paper:
        KDRL, arXiv 2506.02208, which compares it with k2 and takes k2. Assumed: a limit of 10 nats on both sides.
    """
    d = (logp.detach() - teacher_logp).clamp(-limit, limit)
    value = torch.exp(-d) - 1 + d + (1 - torch.exp(-d)) * (logp - logp.detach())
    return Loss(ratio(logp.detach(), old_logp) * value, {"teacher_gap": d})


def teacher_k2_wrong(
    logp: NT, old_logp: NT, teacher_logp: NT, reward: N, *, right: float = 0.5, limit: float = 10.0
) -> Loss:
    """`teacher_k2` on wrong completions only: what earns its reward is left to the objective.

    Equation:
        value = [reward <= right] * teacher_k2

    Gradient:
        That of teacher_k2 on wrong rows, 0 on right ones.

    Reduces to:
        teacher_k2 when no completion is right.

    Edge cases:
        Right rows stay in the denominator. A row to which no reward applies (NaN) counts as wrong.

    Paper:
        KDRL, arXiv 2506.02208: masking at the level of the response. Assumed: right is a total reward above 0.5.
    """
    every = teacher_k2(logp, old_logp, teacher_logp, limit=limit)
    return Loss(torch.where((reward > right)[:, None], 0.0, every.value), every.metrics)


def teacher_k2_failed(
    logp: NT, old_logp: NT, teacher_logp: NT, reward: N, group: Ids, *, right: float = 0.5, limit: float = 10.0
) -> Loss:
    """`teacher_k2` on groups without a right completion only: where the objective has no signal.

    Equation:
        value = [reward <= right for every row of the group] * teacher_k2

    Gradient:
        That of teacher_k2 on rows of failed groups, 0 elsewhere.

    Reduces to:
        teacher_k2_wrong when a group is all right or all wrong.

    Edge cases:
        Rows of other groups stay in the denominator. A row to which no reward applies (NaN) counts as wrong.

    Paper:
        KDRL, arXiv 2506.02208: masking at the level of the group. Assumed: right is a total reward above 0.5.
    """
    every = teacher_k2(logp, old_logp, teacher_logp, limit=limit)
    solved = group_sum((reward > right).to(logp.dtype), group) > 0
    return Loss(torch.where(solved[:, None], 0.0, every.value), every.metrics)
