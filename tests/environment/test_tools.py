"""Tool environments: schemas, calls in processes of their own, and what becomes of calls that fail, hang or crash."""

import os
import time

import pytest

from rlpost import ledger
from rlpost.environment.calculator import Calculator
from rlpost.environment.nursery import CallFailed, Nursery, NurseryError
from rlpost.environment.tools import Tools
from rlpost.errors import ConfigError, DataError, ModelError
from rlpost.types import Task
from tests.rollout.scripted import ENCODER

COUNTER = "tests.environment.classes.Counter"
TASK = Task("t", [{"role": "user", "content": "count"}], answer="7", columns={"start": 3})


@pytest.fixture
def fresh():
    return ledger.reset()


@pytest.fixture(scope="module")
def counter():
    made = Tools(path=COUNTER, timeout_s=0.5)
    yield made
    made.nursery.close()


def call(name: str, **arguments) -> str:
    written = ", ".join(f'"{k}": {v!r}'.replace("'", '"') for k, v in arguments.items())
    return f'<tool_call>{{"name": "{name}", "arguments": {{{written}}}}}</tool_call>'


def said(episode, text: str) -> list[str]:
    return [message["content"] for message in episode.step(text, "eos").messages]


def test_tools_are_the_public_methods(counter):
    names = [tool["function"]["name"] for tool in counter.tools]
    assert names == ["add", "boom", "die", "draw", "grow", "hang", "later", "spell"]
    add = counter.tools[0]["function"]
    assert add["description"] == "Add to the number."
    assert add["parameters"]["properties"] == {"amount": {"type": "integer", "description": "How much."}}
    assert add["parameters"]["required"] == ["amount"]


def test_episodes_have_instances_of_their_own(counter, fresh):
    one, two = counter.reset(TASK, ENCODER), counter.reset(TASK, ENCODER)
    assert one.task.prompt[-1]["content"] == "count Start at 3, asked count." and TASK.prompt[-1]["content"] == "count"
    assert said(one, call("add", amount=4)) == ["7"] and said(one, call("add", amount=1)) == ["8"]
    assert said(two, call("add", amount=1) + call("later", amount=1)) == ["4", "5"]
    assert said(two, call("spell")) == ["ab"] and said(two, "plain words") == []
    for episode in (one, two):
        episode.finish()
    assert (one.info, two.info) == (
        {"tool_calls": 2, "tool_failures": 0, "environment_reward": 8.0},
        {"tool_calls": 3, "tool_failures": 0, "environment_reward": 5.0},
    )
    assert fresh.count() == 0


def test_what_fails_becomes_an_observation_and_is_counted(counter, fresh):
    episode = counter.reset(TASK, ENCODER)
    assert said(episode, call("boom", why="no")) == ["{'error': 'no'}"]
    assert "unexpected keyword argument" in said(episode, call("add", much=4))[0]
    assert "there is no tool 'subtract'; the tools are add, " in said(episode, call("subtract", amount=4))[0]
    assert "there is no tool '_hidden'" in said(episode, call("_hidden"))[0]
    assert "there is no tool 'reset'" in said(episode, call("reset"))[0]
    assert "must be a JSON object" in said(episode, "<tool_call>{name: add}</tool_call>")[0]
    assert said(episode, call("add", amount=1)) == ["4"], "the instance goes on"
    episode.finish()
    assert episode.info == {"tool_calls": 7, "tool_failures": 6, "environment_reward": 4.0}
    causes = {row["cause"]: row["count"] for row in fresh.rows()}
    assert causes == {
        "the tool boom raised RuntimeError": 1,
        "the tool add raised TypeError": 1,
        "a call of a tool that is not there": 3,
        "a malformed tool call": 1,
    }
    assert {row["kind"] for row in fresh.rows()} == {"fail"}


def test_a_long_text_is_cut_where_it_is_made(counter):
    child = counter.nursery.child()
    how = {"timeout_s": 5.0, "most": 20}
    assert child.call("reset", {"start": 1, "prompt": [{"content": "x" * 5000}]}, **how) == " Start at 1, asked x"
    assert child.lost == 5000
    assert child.call("add", {"amount": 1}, **how) == "2" and child.lost == 0
    child.close()


def test_arguments_that_cannot_be_handed_over_are_answered(counter, fresh):
    episode, deep = counter.reset(TASK, ENCODER), 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CallFailed, match="nested too deeply"):
        episode.child.call("add", {"amount": deep}, timeout_s=5.0)
    assert said(episode, call("add", amount=1)) == ["4"], "the instance goes on"
    episode.finish()


@pytest.mark.parametrize(("bad", "cause"), [
    (call("hang", seconds=60), "the tool hang did not return within 0.5 s"),
    (call("die"), "the tool die ended its process"),
])  # fmt: skip
def test_a_call_that_hangs_or_crashes_ends_its_episode_alone(counter, fresh, bad, cause):
    lost, other = counter.reset(TASK, ENCODER), counter.reset(TASK, ENCODER)
    said(lost, call("add", amount=1))
    pid = lost.child._pid
    found = lost.step(bad, "eos")
    assert found.stop == "error" and not found.messages
    assert said(other, call("add", amount=2)) == ["5"]
    for episode in (lost, other):
        episode.finish()
    assert lost.info["environment_reward"] is None and other.info["environment_reward"] == 5.0
    assert [(row["kind"], row["cause"]) for row in fresh.rows()] == [("fail", cause)]
    with pytest.raises(ProcessLookupError):
        for _ in range(2000):  # its parent takes a moment to wait for it, and more on a busy machine
            os.kill(pid, 0)
            time.sleep(0.01)


def test_an_utterance_that_was_cut_calls_nothing(counter):
    episode = counter.reset(TASK, ENCODER)
    assert not episode.step(call("add", amount=1), "length").messages
    episode.finish()
    assert episode.info["environment_reward"] == 3.0


def test_limits_of_calls_and_of_results(fresh):
    made = Tools(path=COUNTER, max_calls=2, max_characters=4)
    episode = made.reset(TASK, ENCODER)
    assert said(episode, call("add", amount=99999)) == ["1000"]  # of 100002
    assert said(episode, call("add", amount=1)) == ["1000"]
    assert episode.step(call("add", amount=1), "eos").stop == "tool"
    episode.finish()
    made.nursery.close()
    assert episode.info["environment_reward"] == 100003.0
    assert [(row["kind"], row["count"]) for row in fresh.rows()] == [("cut", 2)]


def test_a_picture_stops_the_run_with_a_sentence(counter):
    episode = counter.reset(TASK, ENCODER)
    with pytest.raises(NurseryError, match="draw returned content of the type image"):
        episode.step(call("draw"), "eos")
    episode.finish()


@pytest.mark.parametrize(("path", "error", "words"), [
    ("tests.environment.classes.Nothing", ConfigError, "cannot be imported"),
    ("tests.environment.classes.NoReset", ConfigError, r"a method reset"),
    ("tests.environment.classes.Untyped", ModelError, "Untyped.tool has no schema"),
    ("tests", ConfigError, "names no class"),
])  # fmt: skip
def test_a_class_that_is_no_environment(path, error, words):
    with pytest.raises(error, match=words):
        _ = Tools(path=path).tools


def test_a_reset_that_raises_names_the_task():
    made = Tools(path="tests.environment.classes.StuckReset")
    with pytest.raises(DataError, match=r"task t: reset of the environment .* failed: 'start'"):
        made.reset(TASK, ENCODER)
    made.nursery.close()
    with pytest.raises(ConfigError, match="timeout_s=0"):
        Tools(path=COUNTER, timeout_s=0)


def test_a_file_holds_a_class_too(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("class Mine:\n    def reset(self, **columns):\n        return None\n")
    nursery = Nursery(f"{file}:Mine", memory_mb=1024)
    assert nursery.child().call("reset", {}, timeout_s=20) is None
    nursery.close()
    with pytest.raises(ConfigError, match="cannot be used: ImportError"):
        Nursery("nowhere", memory_mb=1024).child()


def test_memory_is_bounded():
    nursery = Nursery(COUNTER, memory_mb=1024)
    child = nursery.child()
    assert child.call("grow", {"megabytes": 1}, timeout_s=20) == str(1 << 20)
    with pytest.raises(CallFailed) as raised:
        child.call("grow", {"megabytes": 2048}, timeout_s=20)
    assert raised.value.kind == "MemoryError"
    nursery.close()


@pytest.mark.parametrize(("expression", "value"), [
    ("1234 * 5678", "7006652"), ("-(2 + 3) ** 2", "-25"), ("7 / 2", "3.5"), ("7 // 2 + 7 % 4", "6"),
])  # fmt: skip
def test_calculator(expression, value):
    assert Calculator().calculate(expression) == value


@pytest.mark.parametrize("expression", ["__import__('os')", "a", "(1).real", "'a' * 3", "", "1 if 2 else 3", "True"])
def test_calculator_takes_numbers_alone(expression):
    with pytest.raises((ValueError, SyntaxError)):
        Calculator().calculate(expression)
