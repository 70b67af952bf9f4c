"""Semi-online performance."""

from types import SimpleNamespace

import pytest

from rlpost.errors import RewardError
from rlpost.metric.trajectory import sop


def row(trajectory: int, index: int, score: float | None, steps: int = 4, group: str = "g"):
    task = SimpleNamespace(columns={"steps": [{}] * steps})
    return SimpleNamespace(group=group, trajectory=trajectory, index=index, scores={"action_score": score}, task=task)


def test_steps_before_the_first_mistake_count():
    """2 of 4 (what was patched behind does not count), 3 of 3 told backwards, 0 of 4: progress 0.5, success 1/3."""
    rows = [row(0, i, s) for i, s in enumerate([1.0, 0.9, 0.55, 1.0])]
    rows += [row(1, i, 1.0, steps=3) for i in (2, 1, 0)] + [row(0, 0, 0.1, group="h")]
    found = sop(rows)
    assert found == pytest.approx({"progress": 0.5, "success": 1 / 3, "sop": (0.5 + 1 / 3) / 2})
    assert sop([row(0, 0, 1.0), row(0, 1, 1.0)])["success"] == 0.0, "an expert's steps that were not reached"


def test_nothing_to_measure():
    with pytest.raises(RewardError, match="action_score"):
        sop([row(0, 0, None)])
