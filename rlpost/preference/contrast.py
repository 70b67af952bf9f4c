"""Preference losses on pairs whose answers carry rewards of their own."""

from rlpost.masked import row_sum
from rlpost.types import NT, Loss, Mask, N


def copg(
    chosen_logp: NT,
    rejected_logp: NT,
    chosen_mask: Mask,
    rejected_mask: Mask,
    ref_chosen_logp: NT,
    ref_rejected_logp: NT,
    chosen_reward: N,
    rejected_reward: N,
    *,
    beta: float = 0.1,
) -> Loss:
    """Make the two answers differ in log-ratio as they differ in reward, whoever wrote them (CoPG on scored pairs).

    Equation:
        rho(y) = sum_t(logp - ref_logp);  d(y) = reward(y) - beta * rho(y)
        value = (d(chosen) - d(rejected))^2 / (2 beta)

    Gradient:
        -(d(chosen) - d(rejected)) (grad log pi(chosen) - grad log pi(rejected)): each answer is the other's baseline.

    Reduces to:
        objective copg in a group of two. ipo times beta / 2 for rewards 1/4 and -1/4 on one token each.

    Edge cases:
        It needs no order: with equal rewards the log-ratios are drawn together, and exchanging the answers changes
        nothing. The minimum is ref exp(reward / beta), normalised. Rewards are the columns chosen_reward and
        rejected_reward, which build=best_and_worst writes.

    Paper:
        Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a supervised-friendly fashion,
        arXiv 2406.19185. Assumed: beta 0.1, within the range 0.03 to 0.5 that the paper uses.
    """
    chosen = row_sum(chosen_logp - ref_chosen_logp, chosen_mask)
    rejected = row_sum(rejected_logp - ref_rejected_logp, rejected_mask)
    gap = (chosen_reward - rejected_reward) - beta * (chosen - rejected)
    metrics = {"log_ratio_gap": (chosen - rejected).detach(), "reward_gap": chosen_reward - rejected_reward}
    return Loss(gap**2 / (2 * beta), metrics)
