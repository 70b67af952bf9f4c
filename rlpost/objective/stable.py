"""A clipped surrogate whose ratio is bounded before it is computed."""

import math

import torch

from rlpost.errors import ConfigError
from rlpost.types import NT, Loss


def stable_reinforce(
    logp: NT,
    old_logp: NT,
    advantage: NT,
    *,
    floor: float = 1e-3,
    ceiling: float = 1e3,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Loss:
    """PPO's clipped surrogate with the log-ratio clamped before exp, for runs far off policy (StableReinforce).

    Equation:
        d = clamp(logp - old_logp, log floor, log ceiling);  r = exp(d)
        value = -min(r * advantage, clip(r, 1 - clip_low, 1 + clip_high) * advantage)

    Gradient:
        Zero where the clamp is active: a negative advantage no longer pushes a token whose ratio passed the ceiling.

    Reduces to:
        ppo_clip where floor < r < ceiling.

    Edge cases:
        With advantage A < 0 the value is at most ceiling * |A|, where the plain loss of a log-ratio of 50 is 5e21 |A|.

    Paper:
        R1-Reward: Training Multimodal Reward Model Through Stable Reinforcement Learning, arXiv 2505.02835.
    """
    if not 0 < floor < 1 < ceiling:
        raise ConfigError(f"objective stable_reinforce: floor={floor:g} and ceiling={ceiling:g} must enclose 1")
    d = logp - old_logp
    low, high = math.log(floor), math.log(ceiling)
    r = d.clamp(low, high).exp()
    value = -torch.minimum(r * advantage, r.clamp(1 - clip_low, 1 + clip_high) * advantage)
    metrics = {"ratio": r.detach(), "pre_clipped": ((d < low) | (d > high)).float()}
    return Loss(value, metrics)
