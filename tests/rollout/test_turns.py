"""Rollouts of several turns: rows, masks, who wrote what, limits and ends."""

import functools
from dataclasses import dataclass, field

import numpy as np
import pytest

from rlpost.environment.protocol import Observation
from rlpost.environment.tools import Tools
from rlpost.errors import ConfigError
from rlpost.rollout.evaluated import in_evaluation
from rlpost.rollout.sample import sample
from rlpost.rollout.turns import multi_turn
from rlpost.types import Media
from tests.rollout.scripted import ENCODER, EOS, context, ids, task

TASKS = [task("a"), task("b")]
BETWEEN = "<|im_start|>user\n{}<|im_end|><|im_start|>assistant\n"


@dataclass
class Asks:
    """Answers `replies` one after the other, then nothing."""

    replies: list = field(default_factory=list)
    tools: tuple = ()

    def __post_init__(self):
        self.finished = []

    def reset(self, task, encoder):
        return Asking(self, task)


@dataclass
class Asking:
    env: Asks
    task: object
    info: dict = field(default_factory=dict)
    heard: list = field(default_factory=list)

    def step(self, said, stop):
        self.heard.append((said, stop))
        replies = self.env.replies
        return replies[len(self.heard) - 1] if len(self.heard) <= len(replies) else Observation()

    def finish(self):
        self.info["heard"] = len(self.heard)
        self.env.finished.append(self)


def reply(text: str, **more) -> Observation:
    return Observation([{"role": "user", "content": text}], **more)


def speaks(prompt: str, k: int) -> str:
    """The number of the turn, and what it was asked last."""
    return f"{prompt.count('<|im_start|>assistant')}{prompt.split('<|im_end|>')[-2][-1]}"


def test_a_conversation_is_one_row_with_masked_observations():
    ctx = context(speaks, n=2)
    rows = multi_turn(TASKS, ctx, environment=Asks([reply("x"), reply("y")]), max_turns=5)
    assert [(r.task.id, r.trajectory, r.turn, r.index) for r in rows] == [
        ("a", 0, 0, 0), ("a", 1, 0, 0), ("b", 0, 0, 0), ("b", 1, 0, 0),
    ]  # fmt: skip
    assert len({r.group for r in rows[:2]}) == 1 and rows[0].group != rows[2].group
    x, y = ids(BETWEEN.format("x")), ids(BETWEEN.format("y"))
    for row in rows:
        first = ids("1a" if row.task.id == "a" else "1b")
        own = [[*first, EOS], [*ids("2x"), EOS], [*ids("3y"), EOS]]
        assert row.tokens == [*own[0], *x, *own[1], *y, *own[2]]
        flags = [True] * 3 + [False] * len(x) + [True] * 3 + [False] * len(y) + [True] * 3
        assert row.trains == flags
        assert row.source == ["policy" if flag else "environment" for flag in flags]
        assert row.gen_logp == [-0.5 if flag else 0.0 for flag in flags]
        assert row.span == [0] * 3 + [-1] * len(x) + [1] * 3 + [-1] * len(y) + [2] * 3
        assert (row.text, row.stop, row.role) == ("3y", "eos", "policy")
        assert (
            row.info["spans"] == [f"1{row.task.id}", "2x", "3y"] and row.info["turns"] == 3 and row.info["heard"] == 3
        )
        assert row.prompt == ENCODER.prompt(row.task)
    assert ctx.engine.asked[-1] == ENCODER.tokenizer.decode([*rows[3].prompt.ids, *rows[3].tokens[:-3]])


def test_a_row_per_turn_has_the_whole_history_as_its_prompt():
    ctx = context(speaks, n=2)
    rows = multi_turn(TASKS[:1], ctx, environment=Asks([reply("x"), reply("7")]), max_turns=5, rows="turn")
    assert [(r.trajectory, r.turn, r.index, r.text, r.role) for r in rows] == [
        (g, t, t, text, role)
        for g in (0, 1)
        for t, (text, role) in enumerate([("1a", "turn"), ("2x", "turn"), ("37", "policy")])
    ]
    history = ["user\na", "assistant\n1a", "user\nx", "assistant\n2x", "user\n7"]
    for row in rows[:3]:
        told = history[: 2 * row.turn + 1]
        text = "".join(f"<|im_start|>{one}<|im_end|>" for one in told) + "<|im_start|>assistant\n"
        assert ENCODER.tokenizer.decode(row.prompt.ids) == text
        assert row.tokens == [*ids(row.text), EOS] and all(row.trains) and row.source == ["policy"] * 3
    assert [r.scores for r in rows] == [{"right": 1.0}] * 6, "the last answer has the 7, the earlier rows its score"


def test_each_turn_may_be_judged_by_itself():
    ctx = context(speaks, n=1)
    rows = multi_turn(TASKS[:1], ctx, environment=Asks([reply("7")]), rows="turn", score="each")
    assert [r.role for r in rows] == ["policy"] * 2 and [r.scores for r in rows] == [{}, {}]
    ctx.score(rows)
    assert [r.scores["right"] for r in rows] == [0.0, 1.0]


@pytest.mark.parametrize("rows", ["conversation", "turn"])
def test_the_limit_of_turns_ends_a_conversation_that_goes_on(rows):
    env = Asks([reply("x")] * 9)
    found = multi_turn(TASKS[:1], context(speaks, n=1), environment=env, max_turns=3, rows=rows)
    assert found[-1].stop == "tool" and found[-1].info["turns"] == 3 and len(env.finished) == 1
    assert found[0].stop == ("tool" if rows == "conversation" else "eos")


def test_an_environment_that_breaks_down_ends_with_an_error():
    found = multi_turn(TASKS[:1], context(speaks, n=1), environment=Asks([Observation(stop="error")]))
    assert found[0].stop == "error" and found[0].tokens == [*ids("1a"), EOS]


def test_without_an_answer_it_is_the_plain_rollout():
    ctx = context(speaks, n=3)
    found = multi_turn(TASKS, ctx, environment=Asks())
    assert [r.tokens for r in found] == [r.tokens for r in ctx.generate(TASKS, 3)]
    assert [r.stop for r in found] == ["eos"] * 6 and all(all(r.trains) for r in found)


@pytest.mark.parametrize("rows", ["conversation", "turn"])
def test_an_utterance_may_be_cut(rows):
    """After one character; the end of turn behind it trains, and the history is what is left."""
    ctx = context(lambda prompt, k: "12345", n=1)
    found = multi_turn(TASKS[:1], ctx, environment=Asks([reply("x", until=1)]), rows=rows)
    first = found[0]
    assert first.tokens[:2] == [*ids("1"), EOS] and first.trains[:2] == [True, True]
    assert first.source[:2] == ["policy", "expert"] and first.gen_logp[:2] == [-0.5, 0.0]
    assert "1<|im_end|><|im_start|>user\nx" in ctx.engine.asked[1]
    if rows == "conversation":
        assert len(first.span) == len(first.tokens) and first.info["spans"] == ["1", "12345"]


def test_an_utterance_without_an_end_gets_one_over_its_last_token():
    ctx = context(lambda prompt, k: "12345", n=1)
    whole = ctx.engine.__call__

    def cut(prompts, n, sampling):
        return [
            one._replace(tokens=one.tokens[:5], logp=one.logp[:5], stop="length") for one in whole(prompts, n, sampling)
        ]

    ctx.engine, ctx.sampling = cut, ctx.sampling.__class__(5)
    found = multi_turn(TASKS[:1], ctx, environment=Asks([reply("x", until=5), Observation(until=5)]), rows="turn")
    assert [r.tokens for r in found] == [[*ids("1234"), EOS]] * 2 and [r.stop for r in found] == ["eos"] * 2


def test_the_history_may_tell_something_else():
    ctx = context(speaks, n=1)
    found = multi_turn(TASKS[:1], ctx, environment=Asks([reply("x", instead="expert")]), rows="turn", score="each")
    assert "<|im_start|>assistant\nexpert<|im_end|>" in ctx.engine.asked[1] and found[0].text == "1a"
    with pytest.raises(ConfigError, match=r"rollout\.rows=turn"):
        multi_turn(TASKS[:1], context(speaks, n=1), environment=Asks([reply("x", instead="expert")]))
    picture = Media("image", frames=np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match="an image or a video"):
        multi_turn(TASKS[:1], context(speaks, n=1), environment=Asks([reply("x", media=[picture])]))
    with pytest.raises(ConfigError, match="max_turns=0"):
        multi_turn(TASKS, context(speaks), environment=Asks(), max_turns=0)


def test_tools_answer_within_the_row():
    """A call, its result in the template's words, the answer; the other conversation hangs and is ended."""
    hung = '<tool_call>{"name": "hang", "arguments": {"seconds": 60}}</tool_call>'
    add = '<tool_call>{"name": "add", "arguments": {"amount": 4}}</tool_call>'

    def say(prompt: str, k: int) -> str:
        if "tool\n" in prompt:
            return "It is " + prompt.rpartition("tool\n")[2].partition("<")[0]
        return add if "asked a." in prompt else hung

    env = Tools(path="tests.environment.classes.Counter", timeout_s=0.5)
    rows = multi_turn([task("a"), task("b")], context(say, n=1), environment=env)
    env.nursery.close()
    good, bad = rows
    result = ids("<|im_start|>tool\n4<|im_end|><|im_start|>assistant\n")
    assert good.tokens == [*ids(add), EOS, *result, *ids("It is 4"), EOS]
    assert good.trains == [True] * (len(ids(add)) + 1) + [False] * len(result) + [True] * 8
    assert (good.text, good.stop, good.info["environment_reward"]) == ("It is 4", "eos", 4.0)
    assert (bad.stop, bad.tokens, bad.info["environment_reward"]) == ("error", [*ids(hung), EOS], None)
    assert bad.info["tool_failures"] == 1 and good.info["tool_failures"] == 0


def test_evaluation_answers_with_conversations():
    """One row of each conversation, the last; a rollout that is not marked leaves evaluation to plain completions."""
    env = Asks([reply("7")])
    answers = in_evaluation(functools.partial(multi_turn, environment=env, rows="turn"))
    assert answers is not None and [r.text for r in answers(TASKS, context(speaks, n=1))] == ["27", "27"]
    assert in_evaluation(sample) is None and in_evaluation(functools.partial(sample)) is None
