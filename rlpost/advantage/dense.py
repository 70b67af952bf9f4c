"""Credit from rewards at many places of a completion, discounted by the distance to the token that earns them."""

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import masked_mean
from rlpost.spans import NSK, Span, last_tokens, row_rewards, spread, suffix_sum, weighted_spans
from rlpost.types import NK, NT, K, Mask


def fine_grained(
    rewards: NK,
    weights: K,
    span_rewards: NSK,
    span: Span,
    mask: Mask,
    old_logp: NT,
    ref_logp: NT,
    *,
    beta: float = 0.3,
    decay: float = 0.95,
    epsilon: float = 1e-8,
) -> NT:
    """Each reward stands at the end of what it judges and reaches back with a decay (Fine-Grained RLHF).

    Equation:
        r_t = sum_k w_k r_{s,k} at the last token of span s, plus sum_k w_k r_k of the row at its last token,
              less beta * (old_logp - ref_logp)_t at every token
        g_t = sum_{j >= t} decay^(j - t) r_j over the tokens where mask
        advantage = (g - mean g) / sqrt(var g + epsilon), over all tokens of the step

    Reduces to:
        the row's total reward for every token, standardised over the step, for decay 1, beta 0 and rewards of rows.

    Edge cases:
        A span without a token that trains earns nothing. One completion of a prompt is enough: none are compared.
        The released code also divides rewards by their deviation first, which the last line undoes.

    Paper:
        Fine-Grained Human Feedback Gives Better Rewards for Language Model Training, arXiv 2306.01693; decay is gamma *
        lambda = 1 * 0.95 of its generalised advantage estimate, which gae_spans makes with a critic. Here the value in
        it is 0 and the mean over the step is the only baseline.
    """
    at_ends = spread(torch.nan_to_num(weighted_spans(span_rewards, weights), nan=0.0), span, mask)
    whole = torch.nan_to_num(weighted_sum(row_rewards(rewards, span_rewards), weights), nan=0.0)
    last = mask & (suffix_sum(mask.long()) == 1)
    r = torch.where(last_tokens(span, mask), at_ends, 0.0) + torch.where(last, whole[:, None], 0.0)
    r = r - beta * torch.where(mask, old_logp - ref_logp, 0.0)
    g, columns = r.new_zeros(len(r)), []
    for t in range(r.shape[1] - 1, -1, -1):
        g = torch.where(mask[:, t], r[:, t] + decay * g, g)
        columns.append(g)
    credit = torch.stack(columns[::-1], dim=1) if columns else r
    mean = masked_mean(credit, mask)
    centred = credit - mean
    return torch.where(mask, centred / (masked_mean(centred**2, mask) + epsilon).sqrt(), 0.0)
