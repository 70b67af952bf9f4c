"""Early exits: where they leave the chain of thought, what trains in them, and their order."""

import pytest

from rlpost.errors import ConfigError
from rlpost.rollout.exits import s_grpo
from tests.rollout.scripted import by_role, context, ids, task

TASKS = [task("a"), task("b")]


def thinking(prompt: str, k: int) -> str:
    return "7" if "STOP" in prompt else "0123456789</think>7"


def test_exits_share_the_thoughts_of_the_whole_completion():
    ctx = context(thinking, n=4)
    rows = s_grpo(TASKS, ctx, stop="STOP", answer_tokens=5)
    assert [r.role for r in rows] == ["policy"] * 2 + ["exit"] * 6
    assert ctx.engine.limits == [16, 5]
    for i, task_ in enumerate(TASKS):
        whole, exits = rows[i], rows[2 + 3 * i : 5 + 3 * i]
        assert whole.task is task_ and whole.index == 3 and [r.index for r in exits] == [0, 1, 2]
        places = [r.fork for r in exits]
        assert places == sorted(set(places)) and places[0] >= 1 and places[-1] <= 10
        for row in exits:
            assert row.group == whole.group and row.text == "0123456789"[: row.fork] + "STOP7"
            assert row.trains == [True] * row.fork + [False] * 4 + [True] * 2
            assert row.source == ["policy"] * row.fork + ["environment"] * 4 + ["policy"] * 2
            assert row.gen_logp[: row.fork] == [-0.5] * row.fork


def test_every_thought_may_be_the_exit():
    rows = s_grpo(TASKS * 100, context(thinking, n=2), stop="STOP")
    assert {r.fork for r in by_role(rows, "exit")} == set(range(1, 11))


def test_thoughts_need_not_train():
    rows = s_grpo(TASKS[:1], context(thinking, n=3), stop="STOP", train_thinking=False)
    assert all(r.trains == [False] * (r.fork + 4) + [True] * 2 for r in rows[1:]) and all(rows[0].trains)


def test_a_completion_without_a_marker_is_all_thought():
    rows = s_grpo([TASKS[0]] * 100, context(lambda prompt, k: "7" if "STOP" in prompt else "012", n=2), stop="STOP")
    assert {r.fork for r in rows[100:]} == {1, 2, 3}


def test_fewer_thoughts_than_exits():
    rows = s_grpo(TASKS[:1], context(lambda prompt, k: "7" if "STOP" in prompt else "01</think>7", n=6), stop="STOP")
    assert {r.fork for r in rows[1:]} <= {1, 2} and [r.fork for r in rows[1:]] == sorted(r.fork for r in rows[1:])
    rows = s_grpo(TASKS[:1], context(lambda prompt, k: "7" if "STOP" in prompt else "</think>7", n=3), stop="STOP")
    assert [r.fork for r in rows] == [0, 0, 0] and rows[1].tokens[:4] == ids("STOP")


def test_one_completion_is_the_plain_rollout():
    rows = s_grpo(TASKS, context(thinking, n=1))
    assert [r.role for r in rows] == ["policy"] * 2
    with pytest.raises(ConfigError, match="answer_tokens=0"):
        s_grpo(TASKS, context(thinking), answer_tokens=0)
