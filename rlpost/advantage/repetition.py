"""Credit that blames repeated tokens where they stand, beside the outcome of the whole completion."""

import torch
from jaxtyping import Int
from torch import Tensor

from rlpost.advantage.group import leave_one_out
from rlpost.masked import masked_mean
from rlpost.types import NK, NT, Ids, K, Mask


def repetition_discounted(
    rewards: NK,
    weights: K,
    group: Ids,
    tokens: Int[Tensor, "N T"],
    mask: Mask,
    *,
    ngram: int = 40,
    penalty: float = 0.05,
    decay: float = 0.99,
    epsilon: float = 1e-8,
) -> NT:
    """The outcome for all tokens, and a penalty for repeated n-grams that reaches back with a decay of its own.

    Equation:
        p_t = -penalty where token t is in an n-gram that occurred before in its row, else 0
        g_t = sum_{j >= t} decay^(j - t) p_j over the tokens where mask
        A_t = r - mean of r over the other rows of the group + g_t, r = sum_k w_k r_k
        advantage = (A - mean A) / sqrt(var A + epsilon), over all tokens of the step

    Reduces to:
        leave_one_out, standardised over the step's tokens, where nothing is repeated.

    Edge cases:
        An n-gram counts from its second occurrence on, overlaps included; a token has the penalty once. Only tokens
        that train are read, as if they stood side by side. With decay 0 the repeated tokens alone are blamed. A row to
        which no reward applies is left out of the outcome, not of the penalty. Standardising has mean 0 over the
        tokens, so a group without signal among others with some is not 0.

    Paper:
        Demystifying Long Chain-of-Thought Reasoning in LLMs, arXiv 2502.03373: 40 tokens, 0.05, 0.99 beside an outcome
        with decay 1; the repetition rule is that of its published code, without only_start.
        Assumed: the other completions are the baseline, where the paper has a critic; g has none but the step's mean.
    """
    p = -penalty * repeated(tokens, mask, ngram).to(rewards.dtype)
    g, columns = p.new_zeros(len(p)), []
    for t in range(p.shape[1] - 1, -1, -1):
        g = torch.where(mask[:, t], p[:, t] + decay * g, g)
        columns.append(g)
    returns = torch.stack(columns[::-1], dim=1) if columns else p
    credit = leave_one_out(rewards, weights, group)[:, None] + returns
    centred = credit - masked_mean(credit, mask)
    return torch.where(mask, centred / (masked_mean(centred**2, mask) + epsilon).sqrt(), 0.0)


def repeated(tokens: Int[Tensor, "N T"], mask: Mask, ngram: int) -> Mask:
    """True at the tokens where mask that are in an n-gram of tokens that occurred before in the row."""
    found = torch.zeros_like(mask)
    for row, (ids, trains) in enumerate(zip(tokens, mask, strict=True)):
        places = trains.nonzero()[:, 0]
        own, seen = ids[places].tolist(), set()
        for start in range(len(own) - ngram + 1):
            gram = tuple(own[start : start + ngram])
            if gram in seen:
                found[row, places[start : start + ngram]] = True
            seen.add(gram)
    return found
