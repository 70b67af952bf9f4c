"""Two turns with a critique between them, and the rows that are taught from them."""

from dataclasses import replace

import pytest

from rlpost.errors import ConfigError
from rlpost.rollout.asked import after_attempt
from rlpost.rollout.feedback import CRITIC, CRITICIZE, REVISE, rltf
from rlpost.stack import RewardStack
from tests.rollout.scripted import ENCODER, EOS, by_role, context, ids, task

TASKS = [task("what?", "7"), task("and?", "8")]


class Judge:
    """Remembers what it was asked and how; has nothing to say of a question that holds "silent"."""

    def __init__(self):
        self.asked, self.how = [], {}

    def judge(self, prompts, **how):
        self.asked += prompts
        self.how = how
        return [None if "silent" in asked else f"say {'8' if 'and?' in asked else '7'}" for asked in prompts]


def answers(prompt: str, k: int) -> str:
    if "say 7" in prompt:
        return "now 7"
    return "7" if "what?" in prompt and k == 1 else f"no {k}"


def asked(tasks, n=3, **knobs):
    ctx, judge = context(answers, n=n), Judge()
    ctx.stack = RewardStack(ctx.stack.rewards, {"critic": judge})
    return rltf(tasks, ctx, judge="critic", **knobs), judge


def test_only_wrong_attempts_are_criticized_and_revised():
    rows, judge = asked(TASKS)
    first, second = by_role(rows, "policy"), by_role(rows, "revision")
    assert [r.text for r in first] == ["no 0", "7", "no 2", "no 0", "no 1", "no 2"]
    assert [(r.trajectory, r.turn, r.index) for r in first] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)] * 2
    assert [(r.group, r.trajectory, r.turn, r.index) for r in second] == [
        (first[i].group, k, 1, 1) for i, k in ((0, 0), (2, 2), (3, 0), (4, 1), (5, 2))
    ]
    assert [r.scores["right"] for r in second] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert second[0].prompt == ENCODER.prompt(after_attempt(TASKS[0], "no 0", f"say 7\n\n{REVISE}"))
    assert second[0].info["critique"] == "say 7" and second[0].source == ["policy"] * len(second[0].tokens)
    assert len(judge.asked) == 5 and judge.how == {"max_tokens": 512, "temperature": 0.0}


def test_the_judge_sees_question_key_and_attempt_between_fences():
    _, judge = asked(TASKS[:1], judge_tokens=9, judge_temperature=0.5)
    fence = judge.asked[0].split("with the code ")[1].split(".")[0]
    assert f"<question {fence}>\nuser: what?\n</question {fence}>" in judge.asked[0]
    assert f"<key {fence}>\n7\n</key {fence}>" in judge.asked[0]
    assert f"<attempt {fence}>\nno 0\n</attempt {fence}>" in judge.asked[0]
    assert judge.how == {"max_tokens": 9, "temperature": 0.5}
    columned = replace(TASKS[0], columns={"hint": "count"})
    _, judge = asked([columned], critic="{hint}: {answer}")
    assert judge.asked == ["count: no 0", "count: no 2"]


def test_a_revision_is_taught_under_the_question_alone():
    rows, _ = asked(TASKS[:1])
    second, distilled = by_role(rows, "revision"), by_role(rows, "distilled")
    assert [(r.text, r.scores) for r in distilled] == [("now 7", {"right": 1.0})] * 2
    for one, other in zip(distilled, second, strict=True):
        assert one.prompt == ENCODER.prompt(TASKS[0]) and one.tokens == other.tokens and all(one.trains)
        assert (one.group, one.trajectory, one.turn) == (other.group, other.trajectory, 1)
        assert one.source == ["policy"] * len(one.tokens) and set(one.gen_logp) == {0.0}


def test_a_critique_is_taught_after_the_attempt():
    rows, _ = asked(TASKS[:1], distilled=False, critiques=True)
    assert [r.role for r in rows] == ["policy"] * 3 + ["revision", "critique"] * 2
    one = by_role(rows, "critique")[0]
    assert one.tokens == [*ids("say 7"), EOS] and one.source == ["expert"] * len(one.tokens) and all(one.trains)
    assert one.prompt == ENCODER.prompt(after_attempt(TASKS[0], "no 0", CRITICIZE))
    assert (one.scores, one.trajectory, one.turn) == ({"right": None}, 0, 1)


def test_without_a_reward_or_a_critique_there_is_no_second_turn():
    rows, judge = asked([task("open", None), task("silent", "7")])
    assert [r.role for r in rows] == ["policy"] * 6 and len(judge.asked) == 3
    rows, judge = asked([task("what?", "7")], n=2, threshold=0.0)
    assert [r.role for r in rows] == ["policy"] * 2 and judge.asked == []


def test_a_missing_judge_and_a_critic_without_the_attempt_are_said():
    with pytest.raises(ConfigError, match="critic must hold"):
        asked(TASKS, critic="look!")
    with pytest.raises(ConfigError, match="judge_tokens=0"):
        asked(TASKS, critic=CRITIC, judge_tokens=0)
