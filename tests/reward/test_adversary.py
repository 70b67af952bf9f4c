"""Attacks are run for real: a wrong program falls to the input that shows it, and only to a valid one."""

import json

import pytest

from rlpost import sandbox
from rlpost.dataset.programs import programs
from rlpost.errors import ConfigError
from rlpost.models.scorer.base import Tally
from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.adversary import question, read, survives
from rlpost.reward.judge import fence_of
from tests.reward.rows import rollout

SIZE = next(task for split in ("train", "test") for task in programs(split) if task.id == "programs-size")


@pytest.fixture(autouse=True)
def caged():
    if sandbox.protections().mode == "none":
        pytest.skip(str(sandbox.protections().why))


class Critic:
    """Names the inputs that it was given, one per round, in the form that it was asked for."""

    def __init__(self, *inputs: str):
        self.inputs, self.tally, self.prompts = inputs, Tally(), []

    def judge(self, prompts, *, max_tokens=512, temperature=0.0, seed=0):
        self.prompts += prompts
        fences = [prompt.partition("<task ")[2].partition(">")[0] for prompt in prompts]
        return [f"Let me see.\nINPUT {fence}: {self.inputs[seed]}" for fence in fences]


def row(code: str):
    return rollout(f"```python\n{code}\n```", question=SIZE.prompt[0]["content"], **SIZE.columns)


def judged(code: str, *inputs: str):
    one = row(code)
    (score,) = survives([one], {"critic": Critic(*inputs)}, attacks=len(inputs))
    return score, json.loads(one.info["attacks"]), one.info["validator_calls"]


WRONG = "def size(x):\n    return x"


def test_a_wrong_program_falls_to_the_input_that_shows_it():
    score, attacks, calls = judged(WRONG, "[5]", "[-5]")
    assert score == 0.0 and calls == 2
    assert [(one["valid"], one["passed"]) for one in attacks] == [(True, True), (True, False)]
    assert judged(WRONG, "[5]", "[0]")[0] == 1.0, "the critic missed it"
    assert judged(SIZE.answer, "[5]", "[-5]")[0] == 1.0


def test_an_attack_that_the_reference_does_not_answer_is_invalid():
    """abs of a text raises, abs of two numbers is no call, and "-5" is no list of arguments."""
    score, attacks, calls = judged(WRONG, '["a"]', "[1, 2]", "-5", "[-5")
    assert score is None and calls == 0
    assert not any(one["valid"] or one["passed"] for one in attacks) and len(attacks) == 4
    assert judged(WRONG, '["a"]', "[-5]")[0] == 0.0


@pytest.mark.parametrize(
    "code",
    [
        "def size(x):\n    raise ValueError",
        "def size(x):\n    return {1, 2}",
        "def other(x):\n    return abs(x)",
        "print(5)\nimport os\nos._exit(0)",
        "no program at all",
    ],
)
def test_a_program_without_a_value_fails(code):
    assert judged(code, "[5]")[0] == 0.0


def test_a_program_may_print_and_a_tuple_is_a_list():
    assert judged("def size(x):\n    print('x')\n    return abs(x)", "[-5]")[0] == 1.0
    pair = rollout("def two(x):\n    return (x, x)", reference="def two(x):\n    return [x, x]", entry_point="two")
    assert survives([pair], {"critic": Critic("[1]")}, attacks=1) == [1.0]
    assert judged(SIZE.answer, "[NaN]")[0] == 1.0, "what is no number equals itself"


def test_rows_keep_their_order_and_those_without_a_reference_have_no_score():
    rows = [row(WRONG), rollout("5"), row(SIZE.answer)]
    critic = Critic("[-3]")
    assert survives(rows, {"critic": critic}, attacks=1) == [0.0, None, 1.0]
    assert len(critic.prompts) == 2 and "def size(x):\n    return x" in critic.prompts[0]
    assert survives([rollout("5")], {}) == [None]


def test_the_stand_in_plays_a_critic():
    (score,) = survives([row(SIZE.answer)], {"critic": StandIn()})
    assert score == 1.0, "its attacks have the form that is asked for, and the program is right"


def test_a_completion_cannot_hold_its_own_attack():
    one = row("INPUT {fence}: [5]")
    assert fence_of(one) in question(one, fence_of(one)) and "INPUT {fence}: [5]" in question(one, fence_of(one))
    assert read("INPUT x: [1]\nINPUT x: [2]", "x") == [2]
    assert read('INPUT x: {"a": 1}', "x") is None and read(f"INPUT x: {'[' * 100_000}{']' * 100_000}", "x") is None
    with pytest.raises(ConfigError, match="has 0 groups"):
        read("", "x", "INPUT")
    with pytest.raises(ConfigError, match="needs one attack or more, not 0"):
        survives([one], {}, attacks=0)
