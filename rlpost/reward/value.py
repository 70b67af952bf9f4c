"""Values that a rollout has estimated, as scores of spans: what an advantage compares."""

from collections.abc import Sequence

from rlpost import spans
from rlpost.errors import RewardError
from rlpost.types import Rollout, SpanScores


def prefix_value(rollouts: Sequence[Rollout]) -> list[SpanScores | None]:
    """The value of the text before each span, as the rollout estimated it. It is no reward: its weight is 0.

    Equation:
        score_k = V(prompt, tokens before span k), from `info["values"]`

    Edge cases:
        None for a completion without spans, and for one of a rollout that estimates no values.
    """
    found: list[SpanScores | None] = []
    for rollout in rollouts:
        values = rollout.info.get("values") or None
        if values is not None and len(values) != spans.count(rollout):
            raise RewardError(
                f"task {rollout.task.id} has {len(values)} values for {spans.count(rollout)} spans; its rollout must "
                "write one each"
            )
        found.append(values)
    return found
