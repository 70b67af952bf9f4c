"""SEC's values by hand, its sampling, and resume."""

import json
import math
import random
from collections import Counter

import pytest

from rlpost.curriculum.sec import Sec
from rlpost.errors import ConfigError, DataError
from rlpost.types import Outcome, Task

TASKS = [Task(id=f"{s}{i}", prompt=(), tags=(s,), columns={"level": i}) for s in "abc" for i in range(2)]


def outcome(task, *advantages):
    return Outcome(task_id=task, n=len(advantages), mean=0, std=0, best=0, tokens=1, step=0, advantages=advantages)


def started(**knobs):
    sec = Sec(**knobs)
    sec.start(TASKS)
    return sec


def test_values_and_probabilities():
    sec = started(alpha=0.25, tau=0.5)
    assert sec.value == [0, 0, 0] and sec.probabilities() == pytest.approx([1 / 3] * 3)
    sec.observe([outcome("a0", 0.5, -1.5), outcome("a1", 1.0, -1.0, 0.0), outcome("b0", 0.0, 0.0)], {})
    # a: (.5 + 1.5 + 1 + 1 + 0)/5 = .8, times .25; b was seen and yields 0; c was not seen
    assert sec.value == pytest.approx([0.2, 0, 0])
    sec.observe([outcome("a1", -0.4), outcome("c0", 1.2, -0.8)], {})
    # a: .25 * .4 + .75 * .2 = .25; c: .25 * 1
    assert sec.value == pytest.approx([0.25, 0, 0.25])
    lift = math.exp(0.25 / 0.5)
    assert sec.probabilities() == pytest.approx([lift / (2 * lift + 1), 1 / (2 * lift + 1), lift / (2 * lift + 1)])


def test_alpha_one_remembers_the_last_step_and_a_large_tau_is_uniform():
    sec = started(alpha=1.0, tau=1e6)
    sec.observe([outcome("b1", 2.0, -2.0)], {})
    sec.observe([outcome("b0", 0.5, -0.7), outcome("c1")], {})
    assert sec.value == pytest.approx([0, 0.6, 0])
    assert sec.probabilities() == pytest.approx([1 / 3] * 3, abs=1e-6)


def test_the_papers_defaults_and_no_overflow():
    sec = started()
    sec.observe([outcome("a0", 6000.0), outcome("b0", 2.0), outcome("c0", 0.0)], {})
    assert sec.value == [3000, 1, 0] and sec.probabilities() == [1, 0, 0]
    sec.value = [0.0, 1.0, 0.0]
    assert sec.probabilities()[1] == pytest.approx(math.e / (math.e + 2))


def test_picks_follow_the_probabilities():
    sec = started(tau=0.1, by="level")
    sec.observe([outcome("a1", 1.0, -1.0)], {})
    # value 0 and .5: odds exp(5) = 148
    drawn = Counter(i % 2 for i in sec.pick(3000, random.Random(2)))
    assert drawn[0] == pytest.approx(3000 / (1 + math.exp(5)), abs=14)  # three deviations of 4.5


def test_resume_continues_exactly():
    sec, rng = started(tau=0.4), random.Random(3)
    sec.pick(4, rng)
    sec.observe([outcome("a0", 0.3, -0.2, 0.9), outcome("b1", 0.1, 0.1)], {})
    state, stream = json.loads(json.dumps(sec.state_dict())), rng.getstate()
    wanted = sec.pick(20, rng)
    again, rng = started(tau=0.4), random.Random()
    again.load_state_dict(state)
    rng.setstate(stream)
    assert again.value == sec.value and again.pick(20, rng) == wanted
    with pytest.raises(DataError, match="same data"):
        started(by="level").load_state_dict(state)


@pytest.mark.parametrize("knobs", [{"alpha": 0.0}, {"alpha": 1.5}, {"tau": 0.0}])
def test_impossible_knobs_are_a_sentence(knobs):
    with pytest.raises(ConfigError, match="0 < alpha <= 1 and tau > 0"):
        Sec(**knobs)
