"""Rewards that an environment gives itself."""

from collections.abc import Sequence

from rlpost.errors import RewardError
from rlpost.types import Rollout


def earned(rollouts: Sequence[Rollout], *, key: str = "environment_reward") -> list[float | None]:
    """What the environment's own `get_reward` said of each conversation (TRL: an environment that owns the reward).

    Edge cases:
        None where the environment broke down, which the ledger counts. Rollouts of no environment, or of one without
        `get_reward`, are refused.
    """
    for rollout in rollouts:
        if key not in rollout.info:
            raise RewardError(
                f"task {rollout.task.id}: no environment left {key!r}; use rollout=tool_use with a class that has "
                "get_reward, or another reward"
            )
    return [None if rollout.info[key] is None else float(rollout.info[key]) for rollout in rollouts]
