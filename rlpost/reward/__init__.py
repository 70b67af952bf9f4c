"""Rewards: `f(rollouts, *, knobs) -> one score per rollout`, None where a reward does not apply."""
