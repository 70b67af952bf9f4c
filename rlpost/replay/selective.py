"""Replay in proportion to the credit of a row: a step without signal trains on what had some before."""

import random

import torch

from rlpost.masked import row_mean
from rlpost.types import Scored


class Selective:
    """Half of the step's rows by the size of their advantage, filled up from earlier ones that had some (SSR).

    Equation:
        F = rows of this step with A != 0, and up to positives * |F| right ones with A = 0;  B = rows of this step
        min(batch * B, |F|) draws from F with P(j) proportional to |A_j|^alpha, with replacement
        as many from the buffer as are missing to batch * B, with P(j) proportional to (|A_j| + 1e-4)^alpha
        buffer: the last `buffer` * B rows with A != 0 of earlier steps

    Edge cases:
        |A| of a row is the mean over its tokens that train. Right rows with A = 0 have weight 0: they add draws, not
        themselves. A row is right where its reward exceeds `right`. A buffer without rows fills nothing, so that the
        first step trains on its own rows alone; a step without any signal then trains on none.

    Paper:
        VL-Rethinker, arXiv 2504.08837: alpha 1, batch and buffer a half.
        Assumed: earlier rows only, as the paper says; the released code puts the step's own rows in the buffer first.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        batch: float = 0.5,
        buffer: float = 0.5,
        positives: float = 0.1,
        right: float = 0.95,
    ):
        self.alpha, self.batch, self.buffer, self.positives, self.right = alpha, batch, buffer, positives, right

    def pick(self, fresh: Scored, stored: Scored, rng: random.Random) -> tuple[list[int], list[int]]:
        """Rows of this step and of the buffer that train now; one may come several times."""
        size = sizes(fresh)
        loud = size.nonzero()[:, 0].tolist()
        wanted = int(self.batch * len(size))
        more = int(self.positives * len(loud))
        sure = 0 if fresh.reward is None else int(((size == 0) & (fresh.reward > self.right)).sum())
        n = min(wanted, len(loud) + min(more, sure))
        own = rng.choices(loud, [float(size[i]) ** self.alpha for i in loud], k=n) if loud else []
        earlier = sizes(stored)
        if not len(earlier):
            return own, []
        weights = [(float(one) + 1e-4) ** self.alpha for one in earlier]
        return own, rng.choices(range(len(earlier)), weights, k=wanted - len(own))

    def hold(self, fresh: Scored, stored: Scored) -> tuple[list[int], list[int]]:
        """Rows of this step and of the buffer that the buffer has from now on; older ones leave first."""
        room = int(self.buffer * len(fresh.mask))
        new = sizes(fresh).nonzero()[:, 0].tolist()[-room:] if room else []
        old = list(range(len(stored.mask)))
        return new, old[len(old) - max(0, min(len(old), room - len(new))) :]


def sizes(table: Scored) -> torch.Tensor:
    """(N,): the mean of |A| over each row's tokens that train."""
    if table.advantage is None:
        raise ValueError("replay reads the advantage, which these rows do not have")
    return row_mean(table.advantage.abs(), table.mask)
