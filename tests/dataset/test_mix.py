"""Several datasets as one."""

from collections import Counter
from functools import partial

import pytest

from rlpost.dataset.mix import mix
from rlpost.errors import ConfigError, DataError
from rlpost.types import Task


def part(split, *, size):
    return [Task(f"{split}-{i}", ({"role": "user", "content": str(i)},), tags=("own",)) for i in range(size)]


PARTS = {"small": partial(part, size=10), "large": partial(part, size=100)}


def test_without_weights_every_row_is_there_once_under_its_part():
    tasks = mix("train", parts=PARTS)
    assert Counter(task.tags for task in tasks) == {("small", "own"): 10, ("large", "own"): 100}
    assert len({task.id for task in tasks}) == 110 and tasks[0].id == "small/train-0"


def test_weights_are_shares_without_repetition():
    tasks = mix("train", parts=PARTS, weights={"small": 1, "large": 3})
    assert Counter(task.tags[0] for task in tasks) == {"small": 10, "large": 30}  # the small part is used up
    assert len({task.id for task in tasks}) == 40
    again = mix("train", parts=PARTS, weights={"small": 1, "large": 3})
    other = mix("train", parts=PARTS, weights={"small": 1, "large": 3}, seed=1)
    assert [t.id for t in tasks] == [t.id for t in again] != [t.id for t in other]


def test_weight_zero_leaves_a_part_out():
    assert {task.tags[0] for task in mix("train", parts=PARTS, weights={"small": 0, "large": 1})} == {"large"}


def test_parts_may_be_option_nodes():
    node = {"_target_": "rlpost.dataset.arithmetic.arithmetic", "train_size": 5}
    assert len(mix("train", parts={"sums": node})) == 5


def test_faults():
    with pytest.raises(ConfigError, match="no parts"):
        mix("train", parts={})
    with pytest.raises(ConfigError, match="names larg; the parts are small, large"):
        mix("train", parts=PARTS, weights={"larg": 1})
    with pytest.raises(ConfigError, match="positive"):
        mix("train", parts=PARTS, weights={"small": -1})
    with pytest.raises(DataError, match="the parts nothing of dataset=mix have no rows"):
        mix("train", parts={"nothing": partial(part, size=0)})
