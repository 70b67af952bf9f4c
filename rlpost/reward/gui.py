"""Rewards for actions on a screen, against those of an expert."""

from rlpost.environment import gui_action
from rlpost.errors import RewardError
from rlpost.lift import per_rollout
from rlpost.types import Rollout


@per_rollout
def action_score(rollout: Rollout, *, form: float = 0.1, action: float = 0.9, column: str = "steps") -> float | None:
    """How well one step agrees with the expert's step at the same place of the trajectory.

    Equation:
        r = form * [the thought is not empty] + action * a
        a = 1 the expert's action (a click anywhere in its box), 0.5 its type alone, 0.1 another type, 0 no action

    Edge cases:
        None where the task has no expert steps. The place is the row's `index`.

    Paper:
        UI-S1, arXiv 2509.11543.
    """
    steps = rollout.task.columns.get(column)
    if not steps:
        return None
    if not 0 <= rollout.index < len(steps):
        raise RewardError(
            f"task {rollout.task.id}: a row has index {rollout.index} of {len(steps)} expert steps; use rollout=ui_s1, "
            "which numbers the steps"
        )
    thinks = bool(gui_action.thought(rollout.text))
    return form * thinks + action * gui_action.agreement(rollout.text, steps[rollout.index])
