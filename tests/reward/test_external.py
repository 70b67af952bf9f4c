"""TRL reward functions run as they are."""

import pytest

from rlpost.errors import ConfigError
from rlpost.reward.external import load, trl
from tests.reward.rows import rollout

SOURCE = """
def length(completions, **kwargs):
    return [float(len(completion[0]["content"])) for completion in completions]

def exact(prompts, completions, solution, bonus=0.0):
    assert prompts[0][-1]["role"] == "user"
    return [None if s is None else (c[0]["content"] == s) + bonus for c, s in zip(completions, solution)]

def plain(prompts, completions, completion_ids, answer):
    return [len(p) + 10 * (c == a) + 100 * len(i) for p, c, i, a in zip(prompts, completions, completion_ids, answer)]

async def later(completions, log_extra, log_metric, **columns):
    log_extra("seen", [1, 2])
    log_metric("mean", 0.5)
    return [1, None]

def stateful(completions, trainer_state):
    return [0.0 for _ in completions]

def broken(completions, **kwargs):
    raise ZeroDivisionError("on purpose")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", str(path))
    path.write_text(SOURCE)
    return str(path)


ROWS = [rollout("19", solution="19"), rollout("abc", group="b")]


def test_conversational_with_columns_and_kwargs(place):
    assert trl(ROWS, path=f"{place}:length") == [2.0, 3.0]
    assert trl(ROWS, path=f"{place}:exact", kwargs={"bonus": 0.25}) == [1.25, None]  # the second row has no solution


def test_standard_gets_plain_text_and_the_answer(place):
    rows = [rollout("19", "19", question="7+12"), rollout("abc", "ab", question="?")]
    assert trl(rows, path=f"{place}:plain", style="standard") == [4 + 10 + 200, 1 + 300]


def test_coroutines_and_logging(place):
    rows = [rollout("a"), rollout("b")]
    assert trl(rows, path=f"{place}:later") == [1.0, None]
    assert [row.info for row in rows] == [{"seen": 1, "mean": 0.5}, {"seen": 2, "mean": 0.5}]


def test_what_a_function_needs_and_nobody_has_is_named(place):
    with pytest.raises(ValueError, match=r"stateful needs 'trainer_state'.*there are .*solution"):
        trl(ROWS, path=f"{place}:stateful")


def test_errors_of_the_function_propagate(place):
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        trl(ROWS, path=f"{place}:broken")


def test_paths(place, monkeypatch):
    assert load("rlpost.reward.external.load") is load
    assert load("rlpost.reward.external:load") is load
    with pytest.raises(ConfigError, match="it has length, exact, plain"):
        load(f"{place}:lenght")
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", "nowhere,nowhere.py")
    with pytest.raises(ConfigError, match="does not exist"):
        load("nowhere.py:f")
    with pytest.raises(ConfigError, match="no module 'nowhere'"):
        load("nowhere.module.f")
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", "nothing")
    with pytest.raises(ConfigError, match="names no function"):
        load("nothing")


def test_a_function_of_rollouts_is_told_its_own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", str(tmp_path / "mine.py"))
    (tmp_path / "mine.py").write_text("def f(rollouts):\n    return [1.0]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"there are prompts, .*reward\.<name>\._target_="):
        trl(ROWS, path=f"{tmp_path / 'mine.py'}:f")
