"""Made-up functions: the demonstration passes the tests of its own task, and splits do not meet."""

import pytest

from rlpost.dataset.functions import functions
from rlpost.errors import DataError
from rlpost.reward.code import code_of
from rlpost.reward.code_form import code_format
from tests.reward.rows import rollout


def test_every_demonstration_passes_its_tests_and_has_the_form():
    tasks = [*functions("train"), *functions("test")]
    assert len(tasks) == 60
    for task in tasks:
        code = code_of(task.demonstration)
        exec(f"{code}\n{task.columns['tests']}", {})  # the project's own code
        assert task.columns["tests"].count("assert") == 3
        with pytest.raises((AssertionError, TypeError)):
            exec(f"def {code.split(':')[0].removeprefix('def ')}: return None\n{task.columns['tests']}", {})
    assert code_format([rollout(task.demonstration) for task in tasks]) == [1.0] * 60


def test_splits_are_apart_sized_and_follow_the_seed():
    train, test = ({task.prompt[0]["content"] for task in functions(split)} for split in ("train", "test"))
    assert not train & test and len(train) > 40 and len(test) > 8
    assert len(functions("train", train_size=7)) == 7
    assert [t.prompt for t in functions("train")] == [t.prompt for t in functions("train")]
    assert [t.prompt for t in functions("train")] != [t.prompt for t in functions("train", seed=1)]
    with pytest.raises(DataError, match="not 'dev'"):
        functions("dev")
