"""The buffer of failed questions: what enters, what a pick takes, what a checkpoint keeps."""

import random

import pytest

from rlpost.curriculum.failed import Failed
from rlpost.errors import DataError
from rlpost.types import Outcome, Task


def made(n=5, **knobs):
    found = Failed(**knobs)
    found.start([Task(f"t{i}", ()) for i in range(n)])
    return found


def went(*pairs):
    return [Outcome(f"t{i}", n=2, mean=best / 2, std=0.0, best=best, tokens=3, step=0) for i, best in pairs]


def pick(buffer, n):
    return buffer.pick(n, random.Random(0))


def test_the_newest_failed_questions_leave_together():
    buffer = made()
    buffer.observe(went((3, 0.0), (1, 1.0), (0, 0.0)), {})
    assert pick(buffer, 3) == []
    buffer.observe(went((3, 0.0), (7, 0.0), (2, 0.0), (4, 0.0)), {})  # 3 again: to the top; 7 is not the stream's
    assert pick(buffer, 3) == [4, 2, 3]
    assert pick(buffer, 2) == [] and pick(buffer, 1) == [0] and pick(buffer, 1) == []


def test_what_fails_is_a_knob():
    buffer = made(fail=0.5)
    buffer.observe(went((0, 0.5), (1, 0.6)), {})
    assert pick(buffer, 1) == [0] and pick(buffer, 1) == []


def test_a_checkpoint_keeps_the_order():
    buffer, other = made(), made()
    buffer.observe(went((3, 0.0), (1, 0.0)), {})
    other.load_state_dict(buffer.state_dict())
    assert pick(other, 2) == pick(buffer, 2) == [1, 3]
    with pytest.raises(DataError, match="of 5 tasks, the dataset has 4"):
        made(4).load_state_dict(buffer.state_dict())
