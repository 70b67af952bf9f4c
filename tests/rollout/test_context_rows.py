"""Rows that a rollout builds: continued from given tokens, branched off other rows, written by an expert."""

import math
from dataclasses import replace

import pytest

from rlpost.errors import ConfigError, DataError
from rlpost.rollout.start import Start
from rlpost.stack import Reward, RewardStack
from tests.rollout.test_context import ENCODER, TASKS, Echo, context

EOS = ENCODER.tokenizer.eos_token_id


def test_a_start_says_what_of_it_trains():
    start = Start.given([60, 61], "expert", trains=True) + Start.given([70], "environment")
    rows = context(Echo()).generate(TASKS[:2], 1, prefixes=[start, Start()])
    assert rows[0].tokens == [60, 61, 70, 40, 50] and rows[0].trains == [True, True, False, True, True]
    assert rows[0].source == ["expert", "expert", "environment", "policy", "policy"]
    assert rows[0].gen_logp == [0.0, 0.0, 0.0, -0.0, -0.0]
    assert rows[1].tokens == [41, 50] and rows[1].source == ["policy"] * 2


def test_a_branch_keeps_what_was_written_before_it():
    engine = Echo()
    ctx = context(engine)
    rows = ctx.generate(TASKS[:2], 2)
    rows[3].gen_logp = [-0.3, -0.4]
    found = ctx.branch([rows[3], rows[0]], [1, 0], insert=[90, 91], max_tokens=3)
    assert [r.tokens for r in found] == [[41, 90, 91, 40, 50], [90, 91, 41, 50]]
    assert found[0].trains == [True, False, False, True, True] and found[1].trains == [False, False, True, True]
    assert found[0].source == ["policy", "environment", "environment", "policy", "policy"]
    assert found[0].gen_logp == [-0.3, 0.0, 0.0, -0.0, -0.0]
    assert [(r.fork, r.group, r.task.id) for r in found] == [(1, rows[3].group, "longer"), (0, rows[0].group, "a")]
    assert engine.calls[-1][2].max_tokens == 3 and engine.calls[-1][0][0].ids[-3:] == [41, 90, 91]
    (quiet,) = ctx.branch(rows[:1], [2], trains=False)
    assert quiet.trains == [False, False, True, True]


def test_a_demonstration_is_a_row_to_which_no_reward_applies():
    ctx = context(Echo(), version=3)
    task = replace(TASKS[0], demonstration="42")
    row = ctx.expert(task, "g")
    assert row.text == "42" and row.tokens[-1] == EOS and len(row.tokens) == 3
    assert row.trains == [True] * 3 and row.source == ["expert"] * 3 and row.gen_logp == [0.0] * 3
    assert (row.role, row.stop, row.group, row.version) == ("expert", "eos", "g", 3)
    assert row.prompt == ENCODER.prompt(TASKS[0]) and row.scores == {"length": None}
    ctx.score([row])
    assert row.scores == {"length": None}


def test_other_turns_of_a_demonstration_do_not_train():
    turns = [
        {"role": "assistant", "content": "1"}, {"role": "user", "content": "2"}, {"role": "assistant", "content": "3"}
    ]  # fmt: skip
    ctx, task = context(Echo()), replace(TASKS[0], demonstration=turns)
    row = ctx.expert(task, "g")
    assert set(zip(row.trains, row.source, strict=True)) == {(True, "expert"), (False, "environment")}
    assert ENCODER.decode([t for t, trains in zip(row.tokens, row.trains, strict=True) if trains]) == "1<|im_end|>3"
    assert ENCODER.decode(ctx.demonstration(task)) == "1"


def test_the_tokens_of_a_demonstration_have_no_stop():
    ctx = context(Echo())
    assert ctx.demonstration(replace(TASKS[0], demonstration="42")) == ctx.tokens("42") and len(ctx.tokens("42")) == 2
    assert ctx.demonstration(TASKS[0]) == []
    with pytest.raises(DataError, match="task a has no demonstration"):
        ctx.expert(TASKS[0], "g")


def test_totals_are_the_named_reward_or_the_weighted_sum():
    stack = RewardStack(
        {
            "one": Reward(lambda rows: [1.0] * len(rows), 2.0),
            "some": Reward(lambda rows: [3.0] * len(rows), 0.5, {"kind": "x"}),
        }
    )
    ctx = replace(context(Echo()), stack=stack)
    tasks = [TASKS[0], replace(TASKS[1], columns={"kind": "x"})]
    rows = ctx.generate(tasks, 1)
    assert ctx.totals(rows) == [2.0, 3.5]
    some = ctx.totals(rows, reward="some")
    assert math.isnan(some[0]) and some[1] == 3.0
    with pytest.raises(ConfigError, match="names the reward 'other'"):
        ctx.totals(rows, reward="other")
    ctx.unscored(rows)
    assert all(math.isnan(total) for total in ctx.totals(rows))
