"""The seed of a row's masks: a property of the row, so that policies, resumes, micro-batches and ranks agree on it."""

import hashlib

from rlpost.types import Rollout


def seed_of(row: Rollout, run_seed: int, draw: int) -> str:
    """The seed of the `draw`-th masks of a row: the one that its rollout stored, else one that follows from the row.

    Edge cases: equal completions of a task in one step look at the same masks where they carry no seed.
    """
    stored = row.info.get("mask_seed")
    if stored is None:
        text = f"{run_seed}/{row.version}/{row.task.id}/{row.tokens}"  # no group: its name differs between ranks
        stored = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return f"{stored}/{draw}"
