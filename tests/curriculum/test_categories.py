"""Categories: the tasks of each, and drawing by weight."""

import random
from collections import Counter

import pytest

from rlpost.curriculum.categories import Categories
from rlpost.errors import DataError
from rlpost.types import Task

TASKS = [
    Task(id=f"t{i}", prompt=(), tags=("math", tag), columns={"level": i % 2})
    for i, tag in enumerate(("b", "a", "b", "b"))
]


def test_tags_or_a_column_sort_the_tasks():
    by_tags = Categories(TASKS, "tags", "mine")
    assert by_tags.names == ["math/a", "math/b"] and by_tags.members == [[1], [0, 2, 3]]
    assert by_tags.of == {"t0": 1, "t1": 0, "t2": 1, "t3": 1}
    by_level = Categories(TASKS, "level", "mine")
    assert by_level.names == ["0", "1"] and by_level.members == [[0, 2], [1, 3]]


def test_draws_follow_the_weights_and_are_uniform_inside():
    drawn = Counter(Categories(TASKS, "tags", "mine").draw([1.0, 3.0], 4000, random.Random(1)))
    # a quarter for the only task of a, a quarter for each of b's three; deviation sqrt(4000 * 3/16) = 27
    assert all(drawn[i] == pytest.approx(1000, abs=82) for i in range(4))
    assert set(Categories(TASKS, "tags", "mine").draw([0.0, 1.0], 50, random.Random(0))) == {0, 2, 3}


def test_faults_are_sentences():
    with pytest.raises(DataError, match="curriculum mine got no tasks"):
        Categories([], "tags", "mine")
    with pytest.raises(DataError, match=r"mine sorts by the column 'kind'.*'level'"):
        Categories(TASKS, "kind", "mine")
    with pytest.raises(DataError, match=r"mine has the categories \['x'\].*same data"):
        Categories(TASKS, "tags", "mine").same(["x"])
