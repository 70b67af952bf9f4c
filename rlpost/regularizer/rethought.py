"""Supervised terms on rows that came out right after a second thought."""

from collections.abc import Sequence

import torch

from rlpost.types import NT, Loss


def rethought_nll(logp: NT, advantage: NT, role: Sequence[str]) -> Loss:
    """Negative log-likelihood of rethought rows that are better than their group (VL-Rethinker's auxiliary loss).

    Equation:
        value = -logp in rows of role "rethought" where advantage > 0, 0 elsewhere

    Gradient:
        The advantage only selects: its size does not weigh.

    Reduces to:
        sft_loss nll where every row is rethought and better than its group.

    Edge cases:
        With the aggregate token_mean it is divided by all tokens of the step, so that it weighs by the share of
        rethought tokens.

    Paper:
        VL-Rethinker, arXiv 2504.08837. Its released code divides by the rethought tokens of a micro-batch.
    """
    rethought = torch.tensor([name == "rethought" for name in role], dtype=torch.bool, device=logp.device)[:, None]
    chosen = rethought & (advantage > 0)
    return Loss(torch.where(chosen, -logp, 0.0), {"rethought": chosen.to(logp.dtype)})
