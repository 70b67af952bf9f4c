"""Tasks that cannot be asked are left out, counted once, and stop a run past a share."""

import pytest

from rlpost import ledger, usable
from rlpost.errors import DataError
from rlpost.media.decode import DecodeError
from rlpost.types import Media, Prompt, Task
from rlpost.usable import Usable


class Scripted:
    """An encoder that fails where a task says so."""

    def __init__(self):
        self.asked = []

    def prompt(self, task):
        self.asked.append(task.id)
        if "error" in task.columns:
            raise task.columns["error"]
        return Prompt([1] * task.columns.get("length", 3), [])


def task(name, media=(), **columns):
    return Task(name, ({"role": "user", "content": "?"},), media=media, columns=columns)


def left(asked, tasks, encoder=None, prompts=None):
    encoder, prompts = encoder or Scripted(), {} if prompts is None else prompts
    return asked.left(tasks, [asked.fault(one, encoder, prompts) for one in tasks])


@pytest.fixture(autouse=True)
def fresh():
    ledger.reset()
    yield
    ledger.reset()


def test_faults_of_different_files_have_one_cause_and_count_once():
    broken = [task(f"b{i}", error=DecodeError(f"{i}.mp4", "decode error", f"detail {i}")) for i in range(2)]
    text = task("t1", error=DataError("task t1 has 1 media but the model reads text only"))
    long = task("l", length=9)
    tasks = [task("good"), *broken, text, long]
    asked = Usable(100, 0.5, context=8)
    for _ in range(2):  # in a second epoch the same rows are drawn again
        assert [one.id for one in left(asked, tasks)] == ["good"]
    assert {row["cause"]: (row["count"], row["where"][-1]) for row in ledger.current().rows()} == {
        "a medium cannot be decoded (decode error)": (2, "b1: 1.mp4 cannot be decoded (decode error): detail 1"),
        "task <id> has 1 media but the model reads text only": (1, "t1"),
        "a prompt longer than the model's context of 8 tokens": (1, "l"),
    }


def test_text_is_looked_at_once_and_a_file_every_time():
    encoder, prompts = Scripted(), {}
    asked, tasks = Usable(10, 0.1), [task("text"), task("file", media=(Media("image", path="a.png"),))]
    for _ in range(3):
        left(asked, tasks, encoder, prompts)
    assert encoder.asked == ["text", "file", "file", "file"]
    assert {one.id for one, _ in prompts.values()} == {"text", "file"}


@pytest.mark.parametrize(("bad", "total", "share", "stops"), [
    (1, 2, 0.01, False),  # one never stops a run
    (2, 200, 0.01, False),
    (3, 200, 0.01, True),
    (3, 200, 0.02, False),
])  # fmt: skip
def test_more_than_the_share_stops(bad, total, share, stops):
    asked, tasks = Usable(total, share), [task(f"b{i}", error=DataError("broken")) for i in range(bad)]
    if not stops:
        assert left(asked, tasks) == []
        return
    with pytest.raises(DataError, match=rf"{bad} of {total} rows.*max_bad:\n.*broken"):
        left(asked, tasks)


def test_faults_on_another_rank_count_towards_the_limit_but_into_its_own_ledger():
    tasks = [task(str(i)) for i in range(4)]
    asked = Usable(4, 0.25)
    faults = [("broken", "0"), None, ("broken", "2"), None]
    with pytest.raises(DataError, match="2 of 4 rows"):
        asked.left(tasks, faults, slice(0, 2))
    assert ledger.current().count("drop") == 1


def test_the_share_is_the_datasets_own_knob():
    assert usable.max_bad({"dataset": {"max_bad": 0.3}}) == 0.3
    assert usable.max_bad({"dataset": {}}) == usable.MAX_BAD
