"""Cuts at every second unsure token, and their values from continuations that the run's own rewards score."""

import math
import random

import pytest

from rlpost import rows as tables
from rlpost.errors import ConfigError
from rlpost.reward.value import prefix_value
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.rollout.segments import segments
from rlpost.stack import Reward, RewardStack
from tests.rollout.test_context import ENCODER, TASKS

SURE, UNSURE, EDGE = math.log(0.95), math.log(0.5), math.log(0.9) + 1e-6
# Unsure tokens of the first completion: 1, 2, 4, 6, 7; every second one: 1, 4, 7. The second has none.
LOGP = [[SURE, UNSURE, UNSURE, SURE, UNSURE, EDGE, UNSURE, UNSURE], [SURE, EDGE, SURE]]


class Script:
    """First the two completions above, then continuations: the k-th of prompt i is k + 1 tokens long."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, n, sampling):
        self.calls.append(([list(p.ids) for p in prompts], n))
        if len(self.calls) == 1:
            return [Completion([40 + t for t in range(len(one))], one, "eos") for one in LOGP]
        return [Completion([70] * (k + 1), [UNSURE] * (k + 1), "eos") for _ in prompts for k in range(n)]


def length(rollouts):
    return [float(len(r.tokens)) for r in rollouts]


def collected(**knobs):
    engine = Script()
    stack = RewardStack({"length": Reward(length, 2.0), "prefix_value": Reward(prefix_value, 0.0)})
    ctx = Context(engine, ENCODER, stack, Sampling(9), 2, random.Random(0))
    return segments(TASKS[:1], ctx, interval=2, continuations=3, **knobs), engine, ctx


def test_spans_start_at_every_second_unsure_token():
    (first, second), engine, _ = collected()
    assert first.span == [-1, 0, 0, 0, 1, 1, 1, 2] and second.span == [-1, -1, -1]
    assert first.info["spans"] == [ENCODER.decode([41, 42, 43]), ENCODER.decode([44, 45, 46]), ENCODER.decode([47])]
    prompt = ENCODER.prompt(TASKS[0]).ids
    prefixes = [[40], [40, 41, 42, 43], [40, 41, 42, 43, 44, 45, 46]]
    assert engine.calls[1:] == [([prompt + p for p in prefixes], 3)]


def test_a_value_is_the_mean_reward_of_the_continuations():
    """Continuations of 1, 2 and 3 tokens behind prefixes of 1, 4 and 7: mean lengths 3, 6 and 9, at a weight of 2."""
    (first, second), _, ctx = collected()
    assert first.info["values"] == [6.0, 12.0, 18.0] and second.info["values"] == []
    ctx.score([first, second])
    assert first.scores == {"length": 8.0, "prefix_value": [6.0, 12.0, 18.0]}
    assert second.scores == {"length": 3.0, "prefix_value": None}
    table = tables.scored([first, second], ctx.stack)
    assert table.span.tolist() == [first.span, second.span + [-1] * 5]
    assert first.trains == [True] * 8 and not {r.role for r in (first, second)} - {"policy"}


def test_continuations_are_made_a_few_at_a_time():
    (first, _), engine, _ = collected(rows_at_once=7)
    assert [len(prompts) for prompts, _ in engine.calls[1:]] == [2, 1] and first.info["values"] == [6.0, 12.0, 18.0]


def test_knobs_without_meaning_are_refused():
    with pytest.raises(ConfigError, match="interval=0"):
        segments(TASKS[:1], collected()[2], interval=0)
