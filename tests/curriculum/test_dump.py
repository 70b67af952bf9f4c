"""DUMP's bounds by hand, its sampling, and resume."""

import json
import math
import random
from collections import Counter

import pytest

from rlpost.curriculum.dump import Dump
from rlpost.errors import DataError
from rlpost.types import Outcome, Task

TASKS = [Task(id=f"{s}{i}", prompt=(), tags=("math", s), columns={"level": i % 2}) for s in "ab" for i in range(3)]


def outcome(task, *advantages):
    return Outcome(task_id=task, n=len(advantages), mean=0, std=0, best=0, tokens=1, step=0, advantages=advantages)


def started(**knobs):
    dump = Dump(**knobs)
    dump.start(TASKS)
    return dump


def test_bounds_and_probabilities():
    dump = started(window=3, tau=0.5, exploration=2.0)
    assert dump.names == ["math/a", "math/b"] and dump.probabilities() == [0.5, 0.5]
    dump.observe([outcome("a1", 0.5, -1.5), outcome("a0", 1.0, -0.1)], {})
    # the window keeps -1.5, 1.0, -.1: mean .8667; four of four completions came from a
    ucb = [2.6 / 3 + 2 * math.sqrt(2 * math.log(5) / 5), 0 + 2 * math.sqrt(2 * math.log(5))]
    assert dump.bounds() == pytest.approx(ucb, rel=1e-9)
    odds = math.exp((ucb[0] - ucb[1]) / 0.5)
    assert dump.probabilities() == pytest.approx([odds / (1 + odds), 1 / (1 + odds)], rel=1e-9)
    assert started().bounds() == [0, 0]


def test_an_unseen_source_has_the_largest_probability_and_a_flat_one_sinks():
    dump = started()
    dump.observe([outcome("a0", *[1.0, -1.0] * 4)], {})
    assert dump.probabilities()[1] > 0.9
    for _ in range(40):
        dump.observe([outcome("a0", *[1.0, -1.0] * 4), outcome("b0", *[0.0] * 8)], {})
    assert dump.bounds()[1] == pytest.approx(math.sqrt(2 * math.log(sum(dump.seen) + 1) / (dump.seen[1] + 1)))
    assert dump.probabilities()[0] > 0.99


def test_picks_follow_the_probabilities_without_replacement_inside_a_source():
    dump, rng = started(), random.Random(0)
    picked = dump.pick(600, rng)
    assert Counter(i // 3 for i in picked)[0] == pytest.approx(300, abs=36)  # three deviations of a fair draw
    of_a = [i for i in picked if i < 3]
    assert all(sorted(of_a[j : j + 3]) == [0, 1, 2] for j in range(0, len(of_a) - 2, 3))
    dump.observe([outcome("b2", *[3.0] * 300), outcome("a2", *[0.0] * 300)], {})
    assert all(i >= 3 for i in dump.pick(50, rng))


def test_a_column_may_name_the_source():
    dump = started(by="level")
    assert dump.names == ["0", "1"] and dump.members == [[0, 2, 3, 5], [1, 4]]
    with pytest.raises(DataError, match=r"'kind'.*'level'"):
        started(by="kind")


def test_resume_continues_exactly():
    dump, rng = started(window=4), random.Random(3)
    dump.pick(4, rng)
    dump.observe([outcome("a0", 0.3, -0.2, 0.9), outcome("b1", 0.1, 0.1, 0.2)], {})
    state, stream = json.loads(json.dumps(dump.state_dict())), rng.getstate()
    wanted = dump.pick(20, rng)
    again, rng = started(window=4), random.Random()
    again.load_state_dict(state)
    rng.setstate(stream)
    assert again.pick(20, rng) == wanted
    again.observe([outcome("a0", 0.5, 0.5)], {})
    assert list(again.recent[0]) == [0.2, 0.9, 0.5, 0.5]
    with pytest.raises(DataError, match="same data"):
        started(by="level").load_state_dict(state)
