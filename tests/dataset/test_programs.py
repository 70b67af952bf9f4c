"""Every reference passes its own tests, and no function is on both sides."""

import pytest

from rlpost.dataset.programs import PROGRAMS, attacks, programs
from rlpost.errors import DataError
from rlpost.reward.adversary import read


def test_references_pass_their_tests_and_a_wrong_program_does_not():
    tasks = [*programs("train"), *programs("test")]
    assert len({task.id for task in tasks}) == len(tasks) == len(PROGRAMS)
    for task in tasks:
        space = {}
        exec(task.columns["reference"], space)
        exec(task.columns["tests"], space)
        assert task.demonstration.strip("`").removeprefix("python\n").strip() == task.answer
        with pytest.raises(AssertionError):
            exec(task.columns["tests"], {task.columns["entry_point"]: lambda *_: "nothing of the kind"})


def test_a_share_is_for_testing_and_the_seed_moves_it():
    test, other = programs("test"), programs("test", seed=1)
    assert len(test) == 4 and len(programs("train", test_share=0.5)) == 8
    assert {task.id for task in test} != {task.id for task in other}
    with pytest.raises(DataError, match="has the splits train and test, not 'validation'"):
        programs("validation")


def test_the_critics_demonstrations_are_calls_that_the_reference_answers():
    tasks = attacks("train")
    assert {task.columns["entry_point"] for task in tasks} == {
        task.columns["entry_point"] for task in programs("train")
    }
    for task in tasks:
        fence = task.prompt[0]["content"].partition("<task ")[2][:8]
        space = {}
        exec(task.columns["reference"], space)
        arguments = read(task.demonstration, fence)
        assert arguments is not None and task.columns["reference"] in task.prompt[0]["content"]
        space[task.columns["entry_point"]](*arguments)
