"""Distillation from a teacher's whole distribution at every token, as terms beside the objective."""

import torch

from rlpost.masked import group_sum
from rlpost.types import NT, Ids, Loss, N


def teacher_kl(teacher_divergence: NT) -> Loss:
    """The divergence to a teacher that `divergence=` names, exact at every token that the policy wrote.

    Equation:
        value = D(policy(. | y_<t), teacher(. | y_<t))

    Gradient:
        That of D with respect to the policy's logits; the teacher is frozen.

    Reduces to:
        the expectation of teacher_k2's gradient over the next token, on policy, with divergence reverse_kl.

    Edge cases:
        Needs no weight for updates after the first: D is no estimate from the token that was sampled. The teacher is a
        model of this process (scorer own or local), whose logits it reads.

    Paper:
        KDRL, arXiv 2506.02208: its top-k option, with divergence policy_top_k_reverse_kl.
    """
    return Loss(teacher_divergence, {"teacher_divergence": teacher_divergence.detach()})


def teacher_kl_wrong(teacher_divergence: NT, reward: N, *, right: float = 0.5) -> Loss:
    """`teacher_kl` on wrong completions only: what earns its reward is left to the objective.

    Equation:
        value = [reward <= right] * teacher_kl

    Reduces to:
        teacher_kl when no completion is right.

    Edge cases:
        Right rows stay in the denominator. A row to which no reward applies (NaN) counts as wrong.

    Paper:
        KDRL, arXiv 2506.02208: masking at the level of the response. Assumed: right is a total reward above 0.5.
    """
    every = teacher_kl(teacher_divergence)
    return Loss(torch.where((reward > right)[:, None], 0.0, every.value), every.metrics)


def teacher_kl_failed(teacher_divergence: NT, reward: N, group: Ids, *, right: float = 0.5) -> Loss:
    """`teacher_kl` on groups without a right completion only: where the objective has no signal.

    Equation:
        value = [reward <= right for every row of the group] * teacher_kl

    Reduces to:
        teacher_kl_wrong when a group is all right or all wrong.

    Edge cases:
        Rows of other groups stay in the denominator. A row to which no reward applies (NaN) counts as wrong.

    Paper:
        KDRL, arXiv 2506.02208: masking at the level of the group. Assumed: right is a total reward above 0.5.
    """
    every = teacher_kl(teacher_divergence)
    solved = group_sum((reward > right).to(teacher_divergence.dtype), group) > 0
    return Loss(torch.where(solved[:, None], 0.0, every.value), every.metrics)
