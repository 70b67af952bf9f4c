"""Direct preference losses: the policy's log-ratio to the reference is an implicit reward."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlpost.masked import row_mean, row_sum
from rlpost.types import NT, Loss, Mask, N


def dpo(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Loss:
    """Logistic loss on the difference of the implicit rewards of the chosen and the rejected answer.

    Equation:
        d(y) = sum_t(logp - ref_logp);  h = beta * (d(chosen) - d(rejected))
        value = -(1 - label_smoothing) * log sigmoid(h) - label_smoothing * log sigmoid(-h)

    Reduces to:
        log 2 with gradient weight beta/2 when the policy is the reference; conservative DPO for label_smoothing > 0.

    Edge cases:
        Only differences count, so the likelihood of both answers may fall together.

    Paper:
        Direct Preference Optimization, arXiv 2305.18290, eq. 7; label smoothing: its conservative variant, no arXiv id.
    """
    chosen, rejected = (
        row_sum(chosen_logp - ref_chosen_logp, chosen_mask),
        row_sum(rejected_logp - ref_rejected_logp, rejected_mask),
    )
    h = beta * (chosen - rejected)
    value = -(1 - label_smoothing) * logsigmoid(h) - label_smoothing * logsigmoid(-h)
    return Loss(value, _implicit(beta * chosen, beta * rejected))


def ipo(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    *,
    beta: float = 0.1,
) -> Loss:
    """Squared distance of the log-ratio difference to a finite target: no blow-up on deterministic preferences.

    Equation:
        d(y) = mean_t(logp - ref_logp)
        value = (d(chosen) - d(rejected) - 1 / (2 * beta))^2

    Edge cases:
        beta is the paper's tau. The mean per token instead of the sum is TRL's reading, confirmed there by the authors.

    Paper:
        A General Theoretical Paradigm to Understand Learning from Human Preferences, arXiv 2310.12036, eq. 17.
    """
    chosen = row_mean(chosen_logp - ref_chosen_logp, chosen_mask)
    rejected = row_mean(rejected_logp - ref_rejected_logp, rejected_mask)
    value = (chosen - rejected - 1 / (2 * beta)) ** 2
    return Loss(value, _implicit(beta * chosen, beta * rejected))


def rpo(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    *,
    beta: float = 0.01,
    eta: float = 0.005,
) -> Loss:
    """DPO plus the summed likelihood of the chosen answer, against over-optimisation.

    Equation:
        value = dpo(beta) - eta * beta * sum_t chosen_logp

    Reduces to:
        dpo when eta is 0.

    Edge cases:
        The weight of the likelihood grows with beta and with the length of the chosen answer; see rpo_average.

    Paper:
        Provably Mitigating Overoptimization in RLHF, arXiv 2405.16436.
        Assumed: beta 0.01, the lower end of the range 0.01 to 0.05 that the paper uses.
    """
    pair = dpo(chosen_logp, rejected_logp, chosen_mask, rejected_mask, ref_chosen_logp, ref_rejected_logp, beta=beta)
    nll = -row_sum(chosen_logp, chosen_mask)
    return Loss(pair.value + eta * beta * nll, {**pair.metrics, "nll": nll.detach()})


def rpo_average(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    *,
    beta: float = 0.1,
    alpha: float = 0.2,
) -> Loss:
    """DPO plus the mean negative log-likelihood per token of the chosen answer, independent of its length.

    Equation:
        value = dpo(beta) - alpha * mean_t chosen_logp

    Reduces to:
        dpo when alpha is 0.

    Edge cases:
        The mean is per answer, then over pairs; TRL's sft term averages over the tokens of all chosen answers.

    Paper:
        Provably Mitigating Overoptimization in RLHF, arXiv 2405.16436; the average: arXiv 2404.19733, eq. 1.
        Assumed: alpha 0.2 (the range of public code is 0.2 to 1).
    """
    pair = dpo(chosen_logp, rejected_logp, chosen_mask, rejected_mask, ref_chosen_logp, ref_rejected_logp, beta=beta)
    nll = -row_mean(chosen_logp, chosen_mask)
    return Loss(pair.value + alpha * nll, {**pair.metrics, "nll": nll.detach()})


def _implicit(chosen: N, rejected: N) -> dict[str, Tensor]:
    chosen, rejected = chosen.detach(), rejected.detach()
    return {
        "chosen_reward": chosen,
        "rejected_reward": rejected,
        "margin": chosen - rejected,
        "accuracy": torch.gt(chosen, rejected).float(),
    }
