"""The adaptive mix by hand, its knobs, and resume."""

import json
import random
from collections import Counter

import pytest

from rlpost.curriculum.domain_share import DomainShare
from rlpost.errors import ConfigError, DataError
from rlpost.types import Outcome, Task

TASKS = [Task(id=f"{d}{i}", prompt=(), tags=(d,), columns={"domain": d}) for d in "abc" for i in range(2)]
WEIGHTS = {"a": 2.0, "b": 1.0, "c": 1.0}


def outcome(task, n):
    return Outcome(task_id=task, n=n, mean=0, std=0, best=0, tokens=1, step=0)


def started(**knobs):
    curriculum = DomainShare(**knobs)
    curriculum.start(TASKS)
    return curriculum


def test_the_weights_alone_until_enough_has_come_back():
    curriculum = started(weights=WEIGHTS)
    curriculum.observe([outcome("a0", 30), outcome("a1", 19)], {})
    assert curriculum.probabilities() == [0.5, 0.25, 0.25]
    curriculum.observe([outcome("b0", 1)], {})
    # shares .98, .02, 0: adjustments .5102, 10 (12.5 clipped), 10 (nothing came back); pulls .2551, 2.5, 2.5
    assert curriculum.probabilities() == pytest.approx([0.2551 / 5.2551, 2.5 / 5.2551, 2.5 / 5.2551], abs=1e-5)


def test_adjustments_and_their_limits():
    curriculum = started(weights=WEIGHTS, min_completions=1, min_adjustment=0.8, max_adjustment=1.5)
    curriculum.observe([outcome("a0", 7), outcome("b0", 2), outcome("c1", 1)], {})
    # shares .7, .2, .1 for targets .5, .25, .25: .714 -> .8, 1.25, 2.5 -> 1.5; pulls .4, .3125, .375 of 1.0875
    assert curriculum.probabilities() == pytest.approx([0.4 / 1.0875, 0.3125 / 1.0875, 0.375 / 1.0875])
    fixed = started(weights=WEIGHTS, min_adjustment=1.0, max_adjustment=1.0)
    fixed.observe([outcome("a0", 70), outcome("b0", 20), outcome("c1", 10)], {})
    assert fixed.probabilities() == pytest.approx([0.5, 0.25, 0.25])


def test_equal_weights_and_a_domain_left_out():
    assert started().target == pytest.approx([1 / 3] * 3)
    curriculum = started(weights={"a": 0.0, "b": 3.0, "c": 1.0}, by="domain")
    assert started(weights={"a": 0.5, "b": 0.3, "c": 0.2}).target == pytest.approx([0.5, 0.3, 0.2])
    drawn = Counter(TASKS[i].tags[0] for i in curriculum.pick(4000, random.Random(0)))
    assert drawn["a"] == 0 and drawn["b"] == pytest.approx(3000, abs=82)  # three deviations of 27
    curriculum.observe([outcome("b0", 75), outcome("c0", 25)], {})
    assert curriculum.probabilities() == pytest.approx([0, 0.75, 0.25])


def test_resume_continues_exactly():
    curriculum, rng = started(weights=WEIGHTS, min_completions=5), random.Random(3)
    curriculum.pick(4, rng)
    curriculum.observe([outcome("a0", 3), outcome("b1", 4)], {})
    state, stream = json.loads(json.dumps(curriculum.state_dict())), rng.getstate()
    wanted = curriculum.pick(20, rng)
    again, rng = started(weights=WEIGHTS, min_completions=5), random.Random()
    again.load_state_dict(state)
    rng.setstate(stream)
    assert again.completed == [3, 4, 0] and again.pick(20, rng) == wanted
    other = DomainShare()
    other.start(TASKS[:2])
    with pytest.raises(DataError, match="same data"):
        other.load_state_dict(state)


def test_faults_are_sentences():
    with pytest.raises(ConfigError, match=r"\['a', 'd'\], the dataset has \['a', 'b', 'c'\]"):
        started(weights={"a": 1.0, "d": 1.0})
    for weights in ({"a": -1.0, "b": 3.0}, {"a": 0.0}, {}):
        with pytest.raises(ConfigError, match="one above 0"):
            DomainShare(weights=weights)
    for low, high in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ConfigError, match="min_adjustment <= max_adjustment"):
            DomainShare(min_adjustment=low, max_adjustment=high)
