"""Weights on tokens that an expert wrote."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.types import NT, Mask
from rlpost.written import written_by


def expert_entropy(
    old_entropy: NT,
    advantage: NT,
    mask: Mask,
    source: Sequence[Sequence[str]],
    *,
    share: float = 0.2,
    positive_only: bool = False,
) -> NT:
    """Of the tokens that an expert wrote, train only on those where the policy is least certain.

    Equation:
        L = number of expert tokens of the row that train
        M = 1 on the ceil(share * L) of them with the highest old_entropy, 0 on the others; 1 on every other token

    Reduces to:
        no weight at share 1, or where no token is an expert's.

    Edge cases:
        Equal entropies: the earlier token. A row with an advantage below 0 pushes its chosen expert tokens down; with
        positive_only they get 0. Counts do not change, so the mean is over the whole row, its beginning included.

    Paper:
        Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling, arXiv 2507.01679; share 0.2.
        Assumed: entropies are those of the policy at the start of the update, not of the current one.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"token_weight expert_entropy has share={share}; choose 0 to 1")
    expert = written_by(source, "expert", old_entropy) & mask
    wanted = (share * expert.sum(-1, keepdim=True).double() - 1e-9).ceil()  # 0.2 * 15 is above 3 in floats
    order = torch.where(expert, old_entropy, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    chosen = expert & (order.argsort(-1) < wanted)
    if positive_only:
        chosen &= advantage > 0
    return (chosen | ~expert).to(old_entropy.dtype)
