"""Who wrote which token: the `source` of rows as a mask."""

from collections.abc import Sequence

import torch

from rlpost.types import NT, Mask


def written_by(source: Sequence[Sequence[str]], who: str, like: NT) -> Mask:
    """(N,T) bool on the device of `like`: the tokens whose source is `who`. Rows may be shorter than the table."""
    found = torch.zeros(like.shape, dtype=torch.bool)
    for row, names in enumerate(source):
        found[row, : len(names)] = torch.tensor([name == who for name in names], dtype=torch.bool)
    return found.to(like.device)
