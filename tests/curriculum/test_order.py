"""Shuffle and sequential: every task once per epoch, and resumable at any point."""

import json
import random

import pytest

from rlpost.curriculum.order import Sequential, Shuffle
from rlpost.errors import DataError
from rlpost.types import Task

TASKS = [Task(id=str(i), prompt=()) for i in range(7)]


def test_shuffle_deals_without_replacement_and_reshuffles():
    deck, rng = Shuffle(), random.Random(1)
    deck.start(TASKS)
    first, second = deck.pick(7, rng), deck.pick(3, rng) + deck.pick(4, rng)
    assert sorted(first) == sorted(second) == list(range(7)) and first != second
    across = deck.pick(10, rng)
    assert sorted(across[:7]) == list(range(7)) and len(set(across[7:])) == 3


def test_sequential_goes_round():
    deck = Sequential()
    deck.start(TASKS)
    assert deck.pick(9, random.Random(0)) == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    deck.observe([], {})
    assert deck.pick(2, random.Random(0)) == [2, 3]


@pytest.mark.parametrize("kind", [Shuffle, Sequential])
def test_resume_continues_exactly(kind):
    deck, rng = kind(), random.Random(5)
    deck.start(TASKS)
    deck.pick(4, rng)
    state, stream = json.loads(json.dumps(deck.state_dict())), rng.getstate()
    wanted = deck.pick(11, rng)
    again, rng = kind(), random.Random()
    again.start(TASKS)
    again.load_state_dict(state)
    rng.setstate(stream)
    assert again.pick(11, rng) == wanted
    other = kind()
    other.start(TASKS[:3])
    with pytest.raises(DataError, match="7 tasks, the dataset has 3"):
        other.load_state_dict(state)


def test_no_tasks_is_a_sentence():
    with pytest.raises(DataError, match="no tasks"):
        Shuffle().start([])
