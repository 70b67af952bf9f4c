"""Whether reasoning and answer agree: what the judge is shown, what its verdict becomes, and what it is not asked."""

import re

import pytest
import yaml

from rlpost import catalogue, ledger
from rlpost.errors import ConfigError
from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.agrees import ASK, reasoning_agrees
from rlpost.reward.judge import fence_of
from tests.reward.rows import rollout
from tests.reward.test_judge import Judge


@pytest.fixture(autouse=True)
def fresh():
    ledger.reset()
    yield
    ledger.reset()


def says(thought, answer="1"):
    return rollout(f"<think>{thought}</think><answer> {answer} </answer>", "2")


def fence(prompt):
    return re.search(r"VERDICT (\w+): <number", prompt)[1]


def verdict(prompt):
    return f"Well.\nVERDICT {fence(prompt)}: {int('so the first' in prompt)}"


def test_verdicts_become_signs_and_the_form_is_needed():
    judge = Judge(verdict)
    rows = [says("so the first"), says("so the second"), rollout("so the first: 1"), says("so the first", "")]
    assert reasoning_agrees(rows, {"judge": judge}) == [1, -1, 0, 0]
    assert len(judge.prompts) == 2 and rows[1].info["judge_reply"].endswith(": 0")
    assert reasoning_agrees(rows[2:], {}) == [0, 0], "nobody is asked"


def test_the_judge_sees_the_tail_and_the_answer_but_no_gold():
    judge, row = Judge(verdict), says("long " * 200 + "so {answer} the first", "seven")
    row.task.columns["gold"] = "x"
    reasoning_agrees([row], {"grader": judge}, role="grader", tail=20)
    [prompt], code = judge.prompts, fence_of(row)
    assert f"<analysis {code}>\n{'so {answer} the first'[-20:]}\n</analysis {code}>" in prompt
    assert f"<answer {code}>\nseven\n</answer {code}>" in prompt and "user: Calculate 7 + 12." in prompt
    assert "long" not in prompt and "2" not in prompt.replace(code, "").replace("12", "")


@pytest.mark.parametrize("reply", ["yes", "VERDICT {f}: 0.5", "VERDICT: 1", "VERDICT {f}: 10", "I say VERDICT {f}: 1"])
def test_no_verdict_is_no_opinion_and_is_counted(reply):
    judge = Judge(lambda p: reply.replace("{f}", fence(p)))
    assert reasoning_agrees([says("x")], {"judge": judge}, max_unparsable=1.0) == [None]
    assert ledger.current().count("fail") == 1 and len(judge.prompts) == 2
    last = Judge(lambda p: f"VERDICT {fence(p)}: 1\nVERDICT {fence(p)}: 0")
    assert reasoning_agrees([says("x")], {"judge": last}) == [-1]


def test_what_cannot_work_and_the_option():
    for knobs in ({"tail": 0}, {"template": "{fence} {answer}"}):
        with pytest.raises(ConfigError, match="reasoning_agrees: tail="):
            reasoning_agrees([says("x")], {"judge": StandIn()}, **knobs)
    path = catalogue.options("reward", [catalogue.recipes_dir()])["reasoning_agrees"]
    assert yaml.safe_load(path.read_text())["template"] == ASK
    assert set(reasoning_agrees([says(f"{i}") for i in range(40)], {"judge": StandIn()})) == {1.0, -1.0}
