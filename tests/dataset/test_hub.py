"""Datasets through the `datasets` library, from a local folder: no network."""

import json

import pytest

from rlpost.dataset.hub import hub
from rlpost.errors import DataError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    for split, count in (("train", 10), ("test", 4)):
        rows = [{"question": f"{split} {i}?", "answer": str(i), "level": i % 2} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path)


def test_splits_columns_tags_and_limit(place):
    train, test = hub("train", path=place, tags=["level"], limit=3), hub("test", path=place)
    assert [task.prompt[0]["content"] for task in train] == ["train 0?", "train 1?", "train 2?"]
    assert [task.tags for task in train] == [("0",), ("1",), ("0",)]
    assert [task.answer for task in test] == ["0", "1", "2", "3"]


def test_slices(place):
    test = hub("test", path=place, test_split="train[80%:]")
    assert [task.prompt[0]["content"] for task in test] == ["train 8?", "train 9?"]


def test_faults(place):
    with pytest.raises(DataError, match=r"\(validation\) cannot be loaded.*dataset=files"):
        hub("validation", path=place)
    with pytest.raises(DataError, match=r"no column 'solution'.*it has answer, level, question"):
        hub("train", path=place, answer="solution")
    with pytest.raises(DataError, match="splits train, test, validation"):
        hub("dev", path=place)
    with pytest.raises(DataError, match=r"nowhere' .*cannot be loaded"):
        hub("train", path=place + "/nowhere")
