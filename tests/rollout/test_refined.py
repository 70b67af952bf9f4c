"""Asking again with help: the help is in no row, and the best of what came of it joins the group."""

import math
from dataclasses import replace

import pytest

from rlpost.errors import ConfigError
from rlpost.rollout.asked import after_attempt, with_remark
from rlpost.rollout.refined import _best, critique_grpo, expo
from rlpost.stack import RewardStack
from rlpost.types import Task
from tests.rollout.scripted import ENCODER, EOS, by_role, context, ids, task

TASK, OTHER = task("what?", "7"), task("and?", "8")


def improving(prompt: str, k: int) -> str:
    """Wrong at first; after a critique, right where the attempt was "5"."""
    if "Improve" not in prompt:
        return ("4", "5", "6")[k]
    return "it is 7" if "assistant\n5" in prompt else "still 4"


def test_the_best_refinement_stands_under_the_question():
    ctx = context(improving, n=4)
    rows = critique_grpo([TASK, OTHER], ctx, refine="Improve.")
    assert [r.role for r in rows] == ["policy"] * 6 + ["refinement"] * 2
    found, none = rows[6:]
    assert found.text == "it is 7" and found.scores == {"right": 1.0} and found.group == rows[0].group
    assert found.prompt == ENCODER.prompt(TASK) and found.task == TASK and found.info == {"refined": "5"}
    assert found.source == ["expert"] * len(found.tokens) and all(found.trains) and found.tokens[-1] == EOS
    assert none.scores == {"right": 0.0} and none.text == "still 4" and none.group == rows[3].group != rows[0].group
    assert ctx.stack.table(rows)[:, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("critique", "said"),
    [
        ("simple_gt", {"4": "no The correct answer is 7. Improve.", "7": "yes The correct answer is 7. Improve."}),
        ("indicative", {"4": "no Improve.", "7": "yes Improve."}),
    ],
)
def test_what_the_critique_says(critique, said):
    ctx = context(lambda prompt, k: ("4", "7")[k], n=3)
    critique_grpo([TASK], ctx, critique=critique, right="yes", wrong="no", refine="Improve.")
    for attempt, words in said.items():
        asked = f"assistant\n{attempt}<|im_end|><|im_start|>user\n{words}<|im_end|>"
        assert sum(asked in prompt for prompt in ctx.engine.asked) == 1, ctx.engine.asked


class Judge:
    """Says something of every attempt but "6"."""

    def __init__(self):
        self.asked, self.how = [], {}

    def judge(self, prompts, **how):
        self.asked, self.how = prompts, how
        return [None if "\n6\n" in prompt else "count again" for prompt in prompts]


def test_a_second_model_criticizes_the_wrong_ones():
    ctx, judge = context(lambda prompt, k: ("4", "7", "6")[k], n=4), Judge()
    ctx.stack = RewardStack(ctx.stack.rewards, {"critic": judge})
    critique_grpo([TASK], ctx, critique="text", judge="critic", judge_tokens=9, right="yes", wrong="no", refine="Now.")
    assert [("\n4\n" in one, "\n6\n" in one) for one in judge.asked] == [(True, False), (False, True)]
    assert judge.how["max_tokens"] == 9 and all("what?" in one and "\n7\n" in one for one in judge.asked)
    said = {"4": "count again Now.", "7": "yes The correct answer is 7. Now.", "6": "no The correct answer is 7. Now."}
    for attempt, words in said.items():
        asked = f"assistant\n{attempt}<|im_end|><|im_start|>user\n{words}<|im_end|>"
        assert sum(asked in prompt for prompt in ctx.engine.asked) == 1, ctx.engine.asked
    with pytest.raises(ConfigError, match="set rollout"):
        critique_grpo([TASK], context(improving, n=2), critique="text")


def test_a_task_without_an_answer_gets_the_judgement_alone():
    ctx = context(lambda prompt, k: "4", n=2)
    rows = critique_grpo([task("open", None)], ctx, wrong="no", refine="Improve.")
    assert "no Improve." in ctx.engine.asked[-1] and "None" not in ctx.engine.asked[-1]
    assert rows[1].scores == {"right": None}
    with pytest.raises(ConfigError, match="num_generations=1"):
        critique_grpo([TASK], context(improving, n=1))


def test_the_first_that_succeeds_else_the_highest():
    assert _best([0.0, 1.0, 2.0], 1.0) == 1
    assert _best([0.1, 0.4, 0.4], 1.0) == 1
    assert _best([math.nan, -1.0], 1.0) == 1 and _best([math.nan, math.nan], 1.0) == 0


def explaining(prompt: str, k: int) -> str:
    if "knowing" not in prompt:
        return "7" if "and?" not in prompt else "5"
    return "because 8" if "knowing 8" in prompt else "because 7" if "what?" in prompt else "no idea"


def test_an_explanation_drops_what_was_revealed():
    ctx = context(explaining, n=2)
    rows = expo([TASK, OTHER, task("open", None)], ctx, explain="knowing {answer}", conclusion=" So {answer}.")
    assert len(by_role(rows, "policy")) == 6
    first, second = by_role(rows, "explanation")
    assert "what?\n\nknowing 7" in ctx.engine.asked[3]
    assert first.text == "because 7 So 7." and first.tokens == [*ids("because 7 So 7."), EOS]
    assert first.prompt == ENCODER.prompt(TASK) and first.group == rows[0].group and second.group == rows[2].group
    assert all(first.trains) and set(first.source) == {"expert"} and first.scores == {"right": None}


def test_only_failed_tasks_are_explained():
    rows = expo([TASK, OTHER], context(explaining, n=2), explain="knowing {answer}", scope="failed")
    assert [r.task.id for r in by_role(rows, "explanation")] == ["and?"]


def test_explanations_that_miss_the_answer_are_dropped():
    third = task("third?", "9")
    every = expo([TASK, third], context(explaining, n=2), explain="knowing {answer}")
    some = expo([TASK, third], context(explaining, n=2), explain="knowing {answer}", filtered=True)
    assert [r.task.id for r in by_role(every, "explanation")] == ["what?", "third?"]
    assert [r.task.id for r in by_role(some, "explanation")] == ["what?"]


@pytest.mark.parametrize(
    ("said", "drops"),
    [
        ("Since the given answer is 7, add 3", True),
        ("as the answer you told me, 7", True),
        ("We were given 3 and 4. So the answer is 7", False),
        ("add 3 and 4: 7", False),
    ],
)
def test_explanations_that_say_that_they_knew_are_dropped(said, drops):
    ctx = context(lambda prompt, k: said, n=2)
    assert len(by_role(expo([TASK], ctx, filtered=True), "explanation")) == (not drops)
    assert len(by_role(expo([TASK], ctx, filtered=True, reveals=""), "explanation")) == 1
    assert len(by_role(expo([TASK], ctx), "explanation")) == 1


def test_braces_of_a_text_are_left_alone():
    rows = expo([TASK], context(explaining, n=2), explain="knowing {answer}", conclusion=" \\boxed{{answer}}")
    assert rows[-1].text == "because 7 \\boxed{7}"


def test_the_question_keeps_its_shape():
    seen = Task("v", [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}])
    assert with_remark(seen, "Look.").prompt[0]["content"] == [
        {"type": "image"}, {"type": "text", "text": "what?"}, {"type": "text", "text": "Look."}
    ]  # fmt: skip
    assert [m["content"] for m in after_attempt(seen, "a", "b").prompt[1:]] == [
        [{"type": "text", "text": "a"}], [{"type": "text", "text": "b"}]
    ]  # fmt: skip
    bare = replace(TASK, prompt=({"role": "system", "content": "s"},))
    assert with_remark(bare, "Look.").prompt[-1] == {"role": "user", "content": "Look."}
    assert TASK.prompt == [{"role": "user", "content": "what?"}]
