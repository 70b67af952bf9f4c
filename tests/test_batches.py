"""Supervised batches: every epoch holds every task once in an order of its own; what is kept in memory is bounded."""

import pytest
import torch

from rlpost import batches, ledger
from rlpost.batches import Encoded, Row, picks
from rlpost.errors import DataError
from rlpost.models.encode import Answer
from rlpost.types import Prompt, Task


def test_epochs_hold_every_task_once_each_in_an_order_of_its_own():
    places = [place for step in range(6) for place in picks(9, 3, step, seed=1)]
    first, second = places[:9], places[9:]
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second and first != sorted(first)
    assert places != [place for step in range(6) for place in picks(9, 3, step, seed=2)]


def test_a_step_may_cross_into_the_next_epoch_and_depends_on_its_number_alone():
    before = [picks(5, 3, step, seed=0) for step in range(10)]
    batches._order.cache_clear()
    assert [picks(5, 3, step, seed=0) for step in range(10)] == before
    flat = [place for step in before for place in step]
    assert all(sorted(flat[start : start + 5]) == list(range(5)) for start in range(0, 30, 5))


def encoded(sizes, **knobs):
    """Rows with a visual tensor of so many bytes each; `calls` lists what was encoded."""
    calls = []

    def encode(task):
        calls.append(task.id)
        if sizes[int(task.id)] < 0:
            raise DataError(f"task {task.id}: cannot be decoded")
        features = {"pixel_values": torch.zeros(sizes[int(task.id)], dtype=torch.uint8)}
        return Row(Prompt([1], [0], features), (Answer([2], [True]),))

    return Encoded([Task(str(i), ()) for i in range(len(sizes))], encode, **knobs), calls


def test_the_latest_rows_stay_in_memory_up_to_the_bound():
    rows, calls = encoded([1000, 1000, 1000], cache_bytes=2500)
    for place in (0, 1, 0, 2, 0, 1):
        rows.rows([place])
    # 0 and 1 fit; 2 pushes out 1, which was used longest ago; 0 is still there, 1 is encoded again
    assert calls == ["0", "1", "2", "1"]


def test_an_unreadable_row_is_left_out_once_and_too_many_stop_the_run():
    ledger.reset()
    rows, calls = encoded([10, -1, 10])
    assert len(rows.rows([0, 1, 2])) == 2 and len(rows.rows([1, 2])) == 1
    assert calls.count("1") == 1 and ledger.current().count("drop") == 1
    rows, _ = encoded([10, -1, -1])
    with pytest.raises(DataError, match="2 of 3 rows"):
        rows.rows([0, 1, 2])


def test_an_answer_labelled_bad_is_not_demonstrated():
    tasks = [
        Task(str(i), [], demonstration="x", columns={"label": label}) for i, label in enumerate((True, False, None))
    ]
    assert [task.id for task in batches.demonstrated(tasks)] == ["0", "2"]
