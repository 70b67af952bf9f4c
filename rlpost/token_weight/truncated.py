"""Weights that depend on how a completion ended."""

from collections.abc import Sequence

import torch

from rlpost.types import NT, Mask


def mask_truncated(mask: Mask, stop: Sequence[str]) -> NT:
    """Take completions that hit the length limit out of the loss (DAPO's overlong filtering).

    Equation:
        M = 0 in rows whose stop is "length", 1 elsewhere

    Edge cases:
        Counts do not change, so the other rows keep their weight; `renormalise: true` divides by what is left instead.
        Advantages are computed before, with the truncated rows in the group, as in TRL's mask_truncated_completions.

    Paper:
        DAPO, arXiv 2503.14476, section 3.4.
    """
    whole = torch.tensor([s != "length" for s in stop], device=mask.device)
    return whole.float().unsqueeze(-1).expand(mask.shape)
