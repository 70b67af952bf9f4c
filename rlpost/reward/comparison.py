"""What a judge that compares is trained for: does its verdict say which answer people preferred, and how clearly?"""

from rlpost.lift import per_rollout
from rlpost.reward.pair_judge import difference
from rlpost.types import Rollout

# Columns of a task that asks for a comparison (dataset=comparisons makes such tasks).
FENCE, LEVELS = "comparison_fence", "comparison_levels"


@per_rollout
def comparison(rollout: Rollout, *, same_sign: float = 0.5) -> float | None:
    """1 for the preference that people had, `same_sign` for the right side with another strength, else 0.

    Equation:
        D from the verdict as in `pair_judge`, gold D* = task.answer
        score = 1[D = D*] + same_sign 1[D != D*, sign D = sign D*]

    Reduces to:
        1[A or B is right] for a binary verdict (levels 2), which has one strength.

    Edge cases: None where the task asks for no comparison. A reply without a verdict in the form: 0.

    Paper:
        Think-RM, arXiv 2505.16265: its rule-based reward for the reward model.
    """
    if FENCE not in rollout.task.columns:
        return None
    gold = float(str(rollout.task.answer))
    found = difference(rollout.text, rollout.task.columns[FENCE], int(rollout.task.columns[LEVELS]))
    if found is None:
        return 0.0
    return 1.0 if found == gold else same_sign if found * gold > 0 else 0.0
