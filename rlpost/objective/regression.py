"""Squared distance of a row's log-ratio to what its reward demands: objectives with a fixed point instead of a clip."""

import torch

from rlpost.fields import regression
from rlpost.masked import group_count, group_mean, group_sum, rollouts, row_mean, row_sum
from rlpost.objective.labels import rated
from rlpost.types import NT, Ids, Loss, Mask, N


@regression
def reg_grpo(logp: NT, old_logp: NT, mask: Mask, advantage: NT, reward: N, group: Ids, *, floor: float = 0.5) -> Loss:
    """Regress the group's advantages on its standardised log-ratios: no clip, no minimum (Reg-GRPO).

    Equation:
        rho = sum_t(logp - old_logp);  c = rho - mean_group rho
        value = (A - c / sqrt(max(mean_group c^2, floor^2)))^2, A the row's advantage

    Gradient:
        Flows through c and, while the floor is not active, through the root.

    Reduces to:
        -2 A / (G floor) as the gradient of the group's mean with respect to rho when logp equals old_logp.

    Edge cases:
        The floor is inside the root, since the root of 0 has no derivative; it is the step in nats: the fixed point is
        c = floor * A. Above the floor only the correlation of rho and A counts. With two rows the gradient is 0 there,
        so give it three or more. A group without credit (all 0), a row alone, a row without a reward (NaN) or without
        tokens: value 0, in no mean. A is the mean of the row's credit over its tokens; use advantage population_zscore.

    Paper:
        DeepVideo-R1: Video Reinforcement Fine-Tuning via Difficulty-aware Regressive GRPO, arXiv 2506.07464.
        Assumed: the sum over tokens in rho, and the floor, which the paper does not have.
    """
    known = rated(reward, mask)
    rho = torch.where(known, row_sum(logp - old_logp, mask), torch.nan)
    c = torch.where(known, rho - group_mean(rho, group), 0.0)
    size = group_count(rho, group)
    target = row_mean(advantage, mask)
    spread = group_sum(c**2, group) / size.clamp(min=1)
    value = (target - c / spread.clamp(min=floor**2).sqrt()) ** 2
    credit = group_sum(torch.where(known, target.abs(), 0.0), group)
    value = torch.where(known & (size > 1) & (credit > 0), value, 0.0)
    return Loss(value.unsqueeze(-1), {"log_ratio": rho.detach().nan_to_num(nan=0.0), "spread": spread.detach().sqrt()})


@regression
def oapl(logp: NT, gen_logp: NT, mask: Mask, advantage: NT, reward: N, *, beta2: float = 1e-3) -> Loss:
    """Regress a row's log-ratio to the sampling policy on its optimal advantage: off-policy by design (OAPL).

    Equation:
        D = sum_t(logp - gen_logp)
        value = (beta2 * D - A)^2, A the row's advantage: r - beta1 * log(mean_group exp(r / beta1))

    Gradient:
        2 beta2 (beta2 D - A) with respect to each logp of the row.

    Reduces to:
        A policy gradient with weight 2 beta2 A at the sampling policy. With beta1 = beta2 = beta its minimum over all
        answers is pi_0 exp(r / beta), normalised, however often a batch is used.

    Edge cases:
        Equal rewards in a group or a row alone: A is 0 and the row is only drawn back to the sampling policy. A row
        without a reward (NaN): value 0. beta1 != beta2 has no solution of value 0. gen_logp are the sampler's own
        numbers, never refreshed while a batch is in use. A is the mean of the row's credit over its tokens.

    Paper:
        LLMs Can Learn to Reason Via Off-Policy RL (OAPL), arXiv 2602.19362; KARL, arXiv 2603.05218.
        Assumed: beta2 1e-3 as in A*-PO by the same authors. Of a rollout with several rows each regresses to the whole
        of A, as KARL is recalled to do: oapl_joint is the exact form.
    """
    distance = row_sum(logp - gen_logp, mask)
    gap = beta2 * distance - row_mean(advantage, mask)
    value = torch.where(rated(reward, mask), gap**2, 0.0)
    return Loss(value.unsqueeze(-1), {"log_ratio": distance.detach()})


@regression
def oapl_joint(
    logp: NT,
    gen_logp: NT,
    mask: Mask,
    advantage: NT,
    reward: N,
    group: Ids,
    trajectory: Ids,
    *,
    beta2: float = 1e-3,
) -> Loss:
    """OAPL of rollouts that were cut into several rows: their log-ratios are added before the square.

    Equation:
        D = sum of (logp - gen_logp) over all tokens of all rows of a rollout;  A = mean of its rows' advantages
        value = (beta2 * D - A)^2 * (rows of the group) / (rollouts of the group * rows of the rollout), on each of them

    Reduces to:
        oapl where every rollout is one row.

    Edge cases:
        With aggregate group_mean every rollout of a prompt weighs the same, however many rows it has. Rows without a
        number of their trajectory stand alone. Rows without a reward (NaN) or tokens: value 0, in no sum.

    Paper:
        KARL, arXiv 2603.05218: rollouts that are cut where their context is compressed.
        Assumed: this form, since the demanded log-ratio would otherwise grow with the number of rows.
    """
    known = rated(reward, mask)
    rollout = rollouts(group, trajectory)
    distance = group_sum(torch.where(known, row_sum(logp - gen_logp, mask), 0.0), rollout)
    target = group_mean(torch.where(known, row_mean(advantage, mask), torch.nan), rollout)
    parts = group_sum(known.to(logp.dtype), rollout).clamp(min=1)
    rows = group_sum(known.to(logp.dtype), group)
    count = group_sum(torch.where(known, 1 / parts, 0.0), group).clamp(min=1e-9)
    value = (beta2 * distance - target.nan_to_num()) ** 2 * rows / (count * parts)
    return Loss(torch.where(known, value, 0.0).unsqueeze(-1), {"log_ratio": distance.detach()})


def copg(logp: NT, ref_logp: NT, mask: Mask, reward: N, group: Ids, *, beta: float = 0.1) -> Loss:
    """Make every pair of a group differ in log-ratio as it differs in reward: a policy gradient for any data (CoPG).

    Equation:
        rho = sum_t(logp - ref_logp);  d = reward - beta * rho
        value_i = mean over j != i in the group of (d_i - d_j)^2 / (2 beta)

    Gradient:
        -(d_i - d_j) (grad log pi_i - grad log pi_j) for a pair: each row is the other's baseline. The group's mean has
        -2 (d_i - mean of the other d) / G with respect to each logp of row i.

    Reduces to:
        Twice the gradient of RLOO (leave_one_out, a sum over tokens, a mean over rows) where rho is 0. ipo times
        beta / 2 for a pair with rewards 1/4 and -1/4 (and one token, where sums are means).

    Edge cases:
        A row alone in its group, without a reward (NaN) or without tokens: value 0, in no pair. Who sampled the rows
        does not matter: neither old_logp nor gen_logp is read. The minimum is ref exp(reward / beta), normalised.

    Paper:
        Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a supervised-friendly fashion,
        arXiv 2406.19185.
        Assumed: beta 0.1, within the range 0.03 to 0.5 that the paper uses; all pairs of a group instead of one.
    """
    known = rated(reward, mask)
    rho = row_sum(logp - ref_logp, mask)
    d = torch.where(known, reward - beta * rho, torch.nan)
    size = group_count(d, group)
    # A common shift cancels in every pair; without it the squares stay small.
    c = torch.where(known, d - group_mean(d, group), 0.0)
    others = (size - 1).clamp(min=1)
    mean, square = (group_sum(c, group) - c) / others, (group_sum(c**2, group) - c**2) / others
    value = torch.where(known & (size > 1), (c**2 - 2 * c * mean + square) / (2 * beta), 0.0)
    return Loss(value.unsqueeze(-1), {"log_ratio": rho.detach(), "gap": c.detach().abs()})
