"""Objectives for rows that were written after feedback and are taught without it."""

from collections.abc import Sequence

import torch

from rlpost.objective.clipped import ppo_clip
from rlpost.types import NT, Loss


def rltf(
    logp: NT,
    old_logp: NT,
    advantage: NT,
    role: Sequence[str],
    *,
    distil: float = 0.1,
    floor: float = -5.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Loss:
    """Clipped surrogate on the turns, and a policy gradient without a ratio on distilled rows (RLTF-SD).

    Equation:
        rows of role "distilled": value = -distil * advantage * [old_logp >= floor] * logp
        other rows:               value = ppo_clip

    Gradient:
        -distil * advantage on a distilled token, exactly 0 where the policy gave it less than exp(floor) before the
        update; that of ppo_clip elsewhere.

    Reduces to:
        ppo_clip where no row is distilled; multi-turn GRPO when distil is 0.

    Edge cases:
        A distilled row was sampled under another prompt, so no ratio speaks for it: its first update is on the policy's
        own probability, and later ones of the same rollouts are not clipped. Its masked tokens stay in the counts. A
        schedule for `distil` anneals it.

    Paper:
        RLTF, arXiv 2602.02482: distil 0.1, also from 0 up to it; floor -5.
    """
    distilled = torch.tensor([name == "distilled" for name in role], dtype=torch.bool, device=logp.device)[:, None]
    likely = old_logp >= floor
    turns = ppo_clip(logp, old_logp, advantage, clip_low=clip_low, clip_high=clip_high)
    taught = -distil * advantage * torch.where(likely, logp, 0.0)
    masked = (distilled & ~likely).to(logp.dtype)
    return Loss(torch.where(distilled, taught, turns.value), {**turns.metrics, "below_floor": masked})
