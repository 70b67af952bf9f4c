"""A reward in a process of its own: its time limit kills it and not the run, and nothing else changes."""

import re

import pytest

from rlpost import ledger
from rlpost.config import check, compose
from rlpost.errors import ConfigError, RewardError
from rlpost.isolated import Isolated
from rlpost.lift import per_rollout
from rlpost.stack import Reward, RewardStack
from tests.reward.rows import rollout

HERE = "tests.test_isolated"


@per_rollout
def measured(rollout, *, factor: float = 2.0):
    """Length, except that one text never ends and others fail in their ways."""
    if rollout.text == "forever":
        re.match("(a+)+$", "a" * 60 + "b")
    if rollout.text == "raise":
        raise KeyError("no such thing")
    if rollout.text == "exit":
        import os

        os._exit(3)
    rollout.info["seen"] = len(rollout.text)
    if rollout.text == "counted":
        ledger.current().fail("odd", "here")
    return factor * len(rollout.text)


def together(rollouts):
    """Scores of a batch, which hangs as a whole."""
    if any(r.text == "forever" for r in rollouts):
        re.match("(a+)+$", "a" * 60 + "b")
    return [float(len(rollouts))] * len(rollouts)


class Remembering:
    """A reward with state."""

    def __call__(self, rollouts):
        return [0.0] * len(rollouts)

    def observe(self, rollouts):
        """Nothing."""


@pytest.fixture
def fresh():
    ledger.reset()
    yield
    ledger.reset()


def test_the_limit_kills_one_answer_and_counts_it(fresh):
    reward = Isolated("m", {"_target_": f"{HERE}.measured", "factor": 3.0}, 2.0)
    rows = [rollout("ab"), rollout("forever"), rollout("counted")]
    try:
        assert reward(rows) == [6.0, None, 21.0]
        assert rows[0].info["seen"] == 2 and "seen" not in rows[1].info
        counted = {row["cause"]: row for row in ledger.current().rows()}
        assert counted["reward m: over its time_limit of 2 s"]["count"] == 1
        assert "forever" in counted["reward m: over its time_limit of 2 s"]["where"][0]
        assert counted["odd"]["count"] == 1
        with pytest.raises(RewardError, match=r"reward 'm' raised KeyError: 'no such thing' on task .* 'raise'"):
            reward([rollout("raise")])
        with pytest.raises(RewardError, match=r"process of reward 'm' ended \(exit code 3\) on task .* 'exit'"):
            reward([rollout("exit")])
        assert reward([rollout("abc")]) == [9.0]
    finally:
        reward.stop()


def test_a_reward_of_batches_has_the_limit_for_the_batch(fresh):
    reward = Isolated("t", {"_target_": f"{HERE}.together"}, 2.0)
    stack = RewardStack({"t": Reward(reward)})
    rows, hanging = [rollout("a"), rollout("b")], [rollout("a"), rollout("forever")]
    try:
        stack.score(rows)
        stack.score(hanging)
        assert [r.scores["t"] for r in rows] == [2.0, 2.0]
        assert [r.scores["t"] for r in hanging] == [None, None]
        assert ledger.current().count("fail") == 2
    finally:
        reward.stop()


def test_what_cannot_be_apart_is_refused():
    with pytest.raises(ConfigError, match="remembers what it saw"):
        Isolated("r", {"_target_": f"{HERE}.Remembering"}, 1.0)
    with pytest.raises(ConfigError, match=r"reward.judge.*time_limit: .* reads models"):
        check(compose("grpo", ["reward=[judge_rubric]", "reward.judge_rubric.time_limit=3"]))
    with pytest.raises(ConfigError, match="must be above 0 seconds"):
        check(compose("grpo", ["reward.correct.time_limit=0"]))
    with pytest.raises(ConfigError, match="only a reward has a time limit"):
        check(compose("grpo", ["objective.time_limit=3"]))
    check(compose("grpo", ["reward.correct.time_limit=0.5"]))
