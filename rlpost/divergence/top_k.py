"""Divergences on the k tokens that the frozen model p finds most likely, S(k), or q, the policy, does; M positions.

The rest of the vocabulary is one bucket of mass 1 - sum_S p, or it is dropped and both models are renormalised on S. By
the chain rule of the KL divergence the bucketed form is the full one less the divergence inside the bucket. It is 0
only if q agrees on S in absolute terms; the renormalised form does not see how much mass q puts outside S.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.divergence.full import forward_kl, reverse_kl
from rlpost.errors import ConfigError

MV = Float[Tensor, "M V"]
M = Float[Tensor, "M"]


def top_k_forward_kl(p_logits: MV, q_logits: MV, *, k: int = 64) -> M:
    """KL(p || q) over the frozen model's k likeliest tokens and one bucket for all others.

    Equation:
        sum_{v in S} p_v log(p_v / q_v) + p_rest log(p_rest / q_rest),  p_rest = 1 - sum_{v in S} p_v, q_rest likewise

    Reduces to:
        `forward_kl` where k is the vocabulary or one less; never above it.

    Paper:
        Don't Ignore the Tail: Decoupling top-K Probabilities for Efficient Language Model Distillation,
        arXiv 2602.20816 (KL split into the top K and the rest; here the divergence inside the rest is left out).
        Assumed: k = 64.
    """
    return forward_kl(*_bucketed(p_logits, q_logits, k))


def top_k_reverse_kl(p_logits: MV, q_logits: MV, *, k: int = 64) -> M:
    """KL(q || p) over the frozen model's k likeliest tokens and one bucket for all others.

    Equation:
        sum_{v in S} q_v log(q_v / p_v) + q_rest log(q_rest / p_rest),  q_rest = 1 - sum_{v in S} q_v, p_rest likewise

    Reduces to:
        `reverse_kl` where k is the vocabulary or one less; never above it.

    Paper:
        MiniLLM, arXiv 2306.08543, for the direction; arXiv 2602.20816 for the split. Assumed: k = 64.
    """
    return reverse_kl(*_bucketed(p_logits, q_logits, k))


def top_k_forward_kl_renormalized(p_logits: MV, q_logits: MV, *, k: int = 64) -> M:
    """KL(p || q) with both models renormalised on the frozen model's k likeliest tokens.

    Equation:
        sum_{v in S} p'_v log(p'_v / q'_v),  p'_v = p_v / sum_S p, q'_v = q_v / sum_S q

    Gradient:
        None on logits outside S: mass that q puts there is not seen.

    Reduces to:
        `forward_kl` where k is the vocabulary.

    Paper:
        Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs, arXiv 2503.16870, shows that training on the
        top k alone is a biased estimate of the full distribution. Assumed: k = 64, q renormalised as well.
    """
    return forward_kl(*_kept(p_logits, q_logits, k))


def top_k_reverse_kl_renormalized(p_logits: MV, q_logits: MV, *, k: int = 64) -> M:
    """KL(q || p) with both models renormalised on the frozen model's k likeliest tokens.

    Equation:
        sum_{v in S} q'_v log(q'_v / p'_v),  p'_v = p_v / sum_S p, q'_v = q_v / sum_S q

    Gradient:
        None on logits outside S: mass that q puts there is not seen.

    Reduces to:
        `reverse_kl` where k is the vocabulary.

    Paper:
        MiniLLM, arXiv 2306.08543, for the direction; arXiv 2503.16870 on the bias of the top k. Assumed: k = 64.
    """
    return reverse_kl(*_kept(p_logits, q_logits, k))


def policy_top_k_reverse_kl(p_logits: MV, q_logits: MV, *, k: int = 64) -> M:
    """KL(q || p) with both models renormalised on the policy's own k likeliest tokens.

    Equation:
        sum_{v in S} q'_v log(q'_v / p'_v),  q'_v = q_v / sum_S q, p'_v = p_v / sum_S p, S the top k of q

    Gradient:
        None through the choice of S, and none on logits outside it: mass that p puts there is not seen.

    Reduces to:
        `reverse_kl` where k is the vocabulary.

    Paper:
        KDRL: A Unified Framework of Knowledge Distillation and Reinforcement Learning, arXiv 2506.02208: its top-k
        option. Assumed: k = 64; a token of S that p excludes makes the divergence infinite.
    """
    ids = _top(q_logits, k)
    return reverse_kl(p_logits.gather(-1, ids), q_logits.gather(-1, ids))


def _top(p_logits: Tensor, k: int) -> Tensor:
    if k < 1:
        raise ConfigError(f"divergence.k={k} must be 1 or more")
    return p_logits.topk(min(k, p_logits.shape[-1]), -1).indices


def _kept(p_logits: Tensor, q_logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    ids = _top(p_logits, k)
    return p_logits.gather(-1, ids), q_logits.gather(-1, ids)


def _bucketed(p_logits: Tensor, q_logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Logits of the top k, and the logsumexp of all others as one more token (none if k is the vocabulary)."""
    ids = _top(p_logits, k)
    if ids.shape[-1] == p_logits.shape[-1]:
        return p_logits.gather(-1, ids), q_logits.gather(-1, ids)
    found = []
    for logits in (p_logits, q_logits):
        rest = logits.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
        found.append(torch.cat([logits.gather(-1, ids), rest], -1))
    return found[0], found[1]
