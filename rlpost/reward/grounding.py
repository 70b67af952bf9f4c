"""What a look at a region was worth: rewards for a metric's weight of 0, read from the grounding environment."""

from rlpost.lift import per_rollout
from rlpost.types import Rollout


@per_rollout
def valid_box(rollout: Rollout) -> float | None:
    """1 where the policy gave a valid region to look at, else 0.

    Edge cases: None for rollouts of another environment.
    """
    return rollout.info.get("box_valid")


@per_rollout
def box_overlap(rollout: Rollout, *, column: str = "region") -> float | None:
    """Intersection over union of the region looked at and the one that holds the answer, in the original image.

    Equation:
        area of the intersection / area of the union; 0 without a valid region

    Edge cases:
        None where the task has no `column` with [x1, y1, x2, y2] in pixels of the original, or without grounding.
    """
    wanted = rollout.task.columns.get(column)
    if wanted is None or "box_valid" not in rollout.info:
        return None
    found = rollout.info.get("box")
    if found is None:
        return 0.0
    width = min(found[2], wanted[2]) - max(found[0], wanted[0])
    height = min(found[3], wanted[3]) - max(found[1], wanted[1])
    both = max(0, width) * max(0, height)
    return both / (_area(found) + _area(wanted) - both)


def _area(box: list[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
