"""Objectives that never drop a token's gradient: the ratio is a bounded weight instead of a gate."""

from rlpost.objective.ratio import ratio
from rlpost.types import NT, Loss


def cispo(logp: NT, old_logp: NT, advantage: NT, *, clip_high: float = 5.0) -> Loss:
    """REINFORCE weighted by a capped, detached importance ratio, so that clipped tokens still learn.

    Equation:
        r = exp(logp - old_logp)
        value = -stopgrad(min(r, clip_high)) * advantage * logp

    Gradient:
        -min(r, clip_high) * advantage with respect to logp; the ratio itself is detached.

    Reduces to:
        ppo_clip's gradient while no ratio is clipped.

    Edge cases:
        clip_high is the cap itself (TRL's epsilon_high under loss_type cispo), not 1 + clip_high. No lower bound.

    Paper:
        MiniMax-M1, arXiv 2506.13585; the cap of 5 is ScaleRL's, arXiv 2510.13786.
        Assumed: the cap, which MiniMax-M1 does not state; its clip(r, 1 - low, 1 + high) has no effective lower bound.
    """
    r = ratio(logp, old_logp).detach()
    value = -r.clamp(max=clip_high) * advantage * logp
    return Loss(value, {"ratio": r, "clip_high": ((r > clip_high) & (advantage > 0)).float()})
