"""Preference losses of loops in which a model plays against itself."""

from torch import Tensor

from rlpost.masked import row_sum
from rlpost.preference.direct import dpo
from rlpost.types import NT, Loss, Mask, N


def sppo(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    chosen_win: N,
    rejected_win: N,
    *,
    beta: float = 0.001,
) -> Loss:
    """Each answer on its own moves to a log-ratio that is proportional to how much more than half it wins.

    Equation:
        d(y) = sum_t(logp - ref_logp);  eta = 1 / beta
        value = 1/2 * sum over y of (d(y) - eta * (win(y) - 1/2))^2, y the chosen and the rejected answer

    Reduces to:
        sppo_single when rejected_win = 1 - chosen_win.

    Edge cases:
        The reference is the policy of the round before. Unlike in DPO no answer can fall because the other falls more.
        The gradient grows with eta * (win - 1/2), up to 500 at the paper's beta: clip it (trainer.max_grad_norm).

    Paper:
        Self-Play Preference Optimization (SPPO), arXiv 2405.00675, eq. 4.6: the log of the partition is taken as eta/2.
    """
    return _squared(
        row_sum(chosen_logp - ref_chosen_logp, chosen_mask),
        row_sum(rejected_logp - ref_rejected_logp, rejected_mask),
        (chosen_win - 0.5) / beta,
        (rejected_win - 0.5) / beta,
        beta,
    )


def sppo_single(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    chosen_win: N,
    *,
    beta: float = 0.001,
) -> Loss:
    """SPPO with one number for both answers: the chance of the chosen one against the rejected one.

    Equation:
        value = 1/2 * (d(chosen) - eta * (P - 1/2))^2 + 1/2 * (d(rejected) + eta * (P - 1/2))^2, P = chosen_win

    Reduces to:
        sppo with rejected_win = 1 - chosen_win.

    Edge cases:
        P is the win of one answer against the other (build=win_pair), not against the policy.

    Paper:
        Self-Play Preference Optimization (SPPO), arXiv 2405.00675; the variant `sppo_single` of its published code.
    """
    target = (chosen_win - 0.5) / beta
    return _squared(
        row_sum(chosen_logp - ref_chosen_logp, chosen_mask),
        row_sum(rejected_logp - ref_rejected_logp, rejected_mask),
        target,
        -target,
        beta,
    )


def cream(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    consistency: N,
    *,
    beta: float = 0.1,
) -> Loss:
    """DPO whose label is believed as far as two rankings agree; the rest of the weight goes to the reversed pair.

    Equation:
        value = C * dpo(chosen, rejected) + (1 - C) * dpo(rejected, chosen), C = consistency

    Reduces to:
        dpo at C = 1, and dpo with label_smoothing 1 - C where C is the same for all pairs.

    Edge cases:
        At C = 1/2 the gradient is zero where policy and reference prefer alike: the pair only holds them together.

    Paper:
        CREAM: Consistency Regularized Self-Rewarding Language Models, arXiv 2410.12735, eq. 11.
    """
    chosen, rejected = (chosen_logp, chosen_mask, ref_chosen_logp), (rejected_logp, rejected_mask, ref_rejected_logp)
    pairs = [dpo(a[0], b[0], a[1], b[1], a[2], b[2], beta=beta) for a, b in ((chosen, rejected), (rejected, chosen))]
    value = consistency * pairs[0].value + (1 - consistency) * pairs[1].value
    return Loss(value, {**pairs[0].metrics, "consistency": consistency.detach()})


def _squared(chosen: N, rejected: N, chosen_target: Tensor, rejected_target: Tensor, beta: float) -> Loss:
    """Half the squared distance of both log-ratios to their targets."""
    value = 0.5 * ((chosen - chosen_target) ** 2 + (rejected - rejected_target) ** 2)
    rewards = [beta * one.detach() for one in (chosen, rejected)]
    return Loss(
        value,
        {
            "chosen_reward": rewards[0],
            "rejected_reward": rewards[1],
            "margin": rewards[0] - rewards[1],
            "accuracy": rewards[0].gt(rewards[1]).float(),
        },
    )
