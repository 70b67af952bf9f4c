"""Generalised advantage estimates from a critic: `value` is what it expects before a token, NaN where it does not look.

Time passes from one token that the critic looks at to the next; what follows the last one is worth 0, also where a
completion was cut at its length. A row to which no reward applies teaches neither the policy nor the critic.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.masked import masked_mean
from rlpost.spans import NSK, Span, last_tokens, row_rewards, spread, suffix_sum, weighted_spans
from rlpost.types import NK, NT, Estimate, K, Mask, N


def gae(rewards: NK, weights: K, value: NT, *, gamma: float = 1.0, lam: float = 0.95) -> Estimate:
    """The total reward at the last token, less what a critic expected, with steps weighed by (gamma lam)^k (PPO).

    Equation:
        r_t = sum_k w_k r_k at the last token, 0 before it
        delta_t = r_t + gamma V_{t+1} - V_t;  advantage_t = sum_{k >= 0} (gamma lam)^k delta_{t+k}
        returns_t = advantage_t + V_t

    Reduces to:
        the discounted return minus V_t at lam 1, the one-step temporal difference delta_t at lam 0.

    Edge cases:
        One completion of a prompt is enough. Neither centred nor scaled over the step.

    Paper:
        Proximal Policy Optimization Algorithms, arXiv 1707.06347, equations 11 and 12; High-Dimensional Continuous
        Control Using Generalized Advantage Estimation, arXiv 1506.02438. lam 0.95 as there, gamma 1 for texts.
    """
    total = weighted_sum(rewards, weights)
    seen = _seen(value, ~torch.isnan(total))
    return _estimate(_at_end(total, seen), value, seen, gamma, lam)


def gae_kl(
    rewards: NK,
    weights: K,
    value: NT,
    old_logp: NT,
    ref_logp: NT,
    *,
    beta: float = 0.05,
    gamma: float = 1.0,
    lam: float = 0.95,
    epsilon: float = 1e-8,
) -> Estimate:
    """`gae` with a penalty per token for leaving the reference, standardised over the step (PPO of RLHF).

    Equation:
        r_t = sum_k w_k r_k at the last token, less beta * (old_logp - ref_logp)_t at every token
        A_t, returns_t as in gae;  advantage = (A - mean A) / sqrt(var A + epsilon), over all tokens with a value

    Reduces to:
        gae, standardised, at beta 0.

    Edge cases:
        Where the critic looks at given tokens too (critic=separate_all), these have their penalty, and count in mean
        and variance. Returns are not scaled.

    Paper:
        Training language models to follow instructions with human feedback (InstructGPT), arXiv 2203.02155; DR-PO,
        arXiv 2404.08495, with beta 0.05 in its code, which standardises as well.
    """
    total = weighted_sum(rewards, weights)
    seen = _seen(value, ~torch.isnan(total))
    r = _at_end(total, seen) - beta * torch.where(seen, old_logp - ref_logp, 0.0)
    found = _estimate(r, value, seen, gamma, lam)
    return Estimate(_standardised(found.advantage, seen, epsilon), found.returns)


def gae_spans(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    span: Span,
    mask: Mask,
    value: NT,
    old_logp: NT,
    ref_logp: NT,
    *,
    beta: float = 0.3,
    gamma: float = 1.0,
    lam: float = 0.95,
    epsilon: float = 1e-8,
) -> Estimate:
    """`gae_kl` with a reward at the end of each span beside that of the whole text (Fine-Grained RLHF).

    Equation:
        r_t = sum_k w_k r_{s,k} at the last token of span s, plus sum_k w_k r_k of the row at its last token,
              less beta * (old_logp - ref_logp)_t at every token
        r' = (r - mean r) / sqrt(var r + epsilon) + mean r, over all tokens with a value
        A_t, returns_t as in gae from r';  advantage = (A - mean A) / sqrt(var A + epsilon)

    Reduces to:
        gae_kl with rewards divided by their deviation, where rewards score rows.

    Edge cases:
        A span without a token that trains earns nothing. The deviation of r is that of all tokens, most of which earn
        nothing but the penalty.

    Paper:
        Fine-Grained Human Feedback Gives Better Rewards for Language Model Training, arXiv 2306.01693; the scaling of r
        is its code's whiten_rewards.
    """
    spans = weighted_spans(span_rewards, weights)
    total = weighted_sum(row_rewards(rewards, span_rewards), weights)
    seen = _seen(value, ~torch.isnan(total) | ~torch.isnan(spans).all(-1))
    at_ends = spread(torch.nan_to_num(spans, nan=0.0), span, mask)
    r = _at_end(torch.nan_to_num(total, nan=0.0), seen) + torch.where(last_tokens(span, mask) & seen, at_ends, 0.0)
    r = r - beta * torch.where(seen, old_logp - ref_logp, 0.0)
    scaled = _standardised(r, seen, epsilon) + torch.where(seen, masked_mean(r, seen), 0.0)
    found = _estimate(scaled, value, seen, gamma, lam)
    return Estimate(_standardised(found.advantage, seen, epsilon), found.returns)


def _seen(value: NT, rewarded: Bool[Tensor, "N"]) -> Mask:
    """The tokens that have a value, in the rows to which a reward applies."""
    return ~torch.isnan(value) & rewarded[:, None]


def _at_end(total: N, seen: Mask) -> NT:
    """The number of each row at its last token that is seen, 0 elsewhere."""
    return torch.where(seen & (suffix_sum(seen.long()) == 1), total[:, None], 0.0)


def _estimate(r: NT, value: NT, seen: Mask, gamma: float, lam: float) -> Estimate:
    """From the last token to the first: A_t = delta_t + gamma lam A_{t+1}."""
    v, advantage = torch.where(seen, value, 0.0), torch.zeros_like(value)
    after, gain = r.new_zeros(len(r)), r.new_zeros(len(r))
    for t in range(r.shape[1] - 1, -1, -1):
        delta = r[:, t] + gamma * after - v[:, t]
        gain = torch.where(seen[:, t], delta + gamma * lam * gain, gain)
        after = torch.where(seen[:, t], v[:, t], after)
        advantage[:, t] = torch.where(seen[:, t], gain, 0.0)
    return Estimate(advantage, torch.where(seen, advantage + v, torch.nan))


def _standardised(x: NT, seen: Mask, epsilon: float) -> NT:
    centred = x - masked_mean(x, seen)
    return torch.where(seen, centred / (masked_mean(centred**2, seen) + epsilon).sqrt(), 0.0)
