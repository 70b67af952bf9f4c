"""Replay that fills a step up: what its own rows leave of a quota goes to rows of earlier steps."""

import random

from rlpost.errors import ConfigError
from rlpost.replay.selective import sizes
from rlpost.types import Scored


class Quota:
    """All rows of the step that have an advantage, filled up from earlier ones to `quota` rows.

    Equation:
        F = rows of this step with A != 0, which all train
        max(0, quota - |F|) rows of the buffer train too, drawn without replacement
        buffer: rows of earlier steps with A != 0, the last `buffer` * quota of them

    Edge cases:
        |A| of a row is the mean over its tokens that train. A buffer with fewer rows than are missing gives all it has.
        More than `quota` rows of a step all train. A row may train again in several steps.

    Paper:
        Segment Policy Optimization, arXiv 2505.23564: edges of earlier iterations are replayed up to a quota of 512.
        Assumed: which of them, and for how long they are kept.
    """

    def __init__(self, *, quota: int = 512, buffer: float = 1.0):
        if quota < 1 or not 0 <= buffer < 1e6:
            raise ConfigError(
                f"replay quota={quota} must be 1 or more rows, and buffer={buffer:g} a number of quotas from 0 on"
            )
        self.quota, self.room = quota, int(buffer * quota)

    def pick(self, fresh: Scored, stored: Scored, rng: random.Random) -> tuple[list[int], list[int]]:
        """Rows of this step and of the buffer that train now."""
        own = sizes(fresh).nonzero()[:, 0].tolist()
        earlier = list(range(len(stored.mask)))
        return own, sorted(rng.sample(earlier, min(len(earlier), max(0, self.quota - len(own)))))

    def hold(self, fresh: Scored, stored: Scored) -> tuple[list[int], list[int]]:
        """Rows of this step and of the buffer that the buffer has from now on; older ones leave first."""
        new = sizes(fresh).nonzero()[:, 0].tolist()
        new = new[max(0, len(new) - self.room) :]
        old = list(range(len(stored.mask)))
        return new, old[max(0, len(old) - (self.room - len(new))) :]
