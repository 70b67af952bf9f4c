"""Divergences over the whole vocabulary. p is the frozen model (reference or teacher), q is the policy; M positions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import log_softmax

MV = Float[Tensor, "M V"]
M = Float[Tensor, "M"]


def forward_kl(p_logits: MV, q_logits: MV) -> M:
    """KL(p || q): the policy must cover what the frozen model does.

    Equation:
        sum_v p_v (log p_v - log q_v)

    Edge cases:
        A token that p excludes (logit -inf) contributes 0; one that only q excludes makes the divergence infinite.

    Paper:
        Distilling the Knowledge in a Neural Network, arXiv 1503.02531; ASFT, arXiv 2509.23753, uses it as its anchor.
    """
    return _kl(log_softmax(p_logits, -1), log_softmax(q_logits, -1))


def reverse_kl(p_logits: MV, q_logits: MV) -> M:
    """KL(q || p): the policy must not do what the frozen model does not.

    Equation:
        sum_v q_v (log q_v - log p_v)

    Edge cases:
        A token that q excludes (logit -inf) contributes 0.

    Paper:
        MiniLLM, arXiv 2306.08543.
    """
    return _kl(log_softmax(q_logits, -1), log_softmax(p_logits, -1))


def js(p_logits: MV, q_logits: MV) -> M:
    """Jensen-Shannon divergence: symmetric, at most log 2.

    Equation:
        m = (p + q) / 2;  KL(p || m) / 2 + KL(q || m) / 2

    Edge cases:
        Disjoint supports give log 2.

    Paper:
        On-Policy Distillation of Language Models, arXiv 2306.13649 (there with a mixing weight, here 1/2).
    """
    log_p, log_q = log_softmax(p_logits, -1), log_softmax(q_logits, -1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    absent = log_a == -torch.inf
    difference = log_a.masked_fill(absent, 0.0) - log_b.masked_fill(absent, 0.0)
    return (log_a.exp() * difference).sum(-1)
