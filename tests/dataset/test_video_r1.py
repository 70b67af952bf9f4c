"""Rows of Video-R1's JSON files: what a task holds, what is refused, and what the ledger says."""

import json

import pytest

from rlpost import ledger
from rlpost.dataset.video_r1 import INSTRUCTION, SUFFIX, video_r1
from rlpost.errors import ConfigError, DataError
from rlpost.reward.video import multiple_choice
from rlpost.types import Prompt, Rollout

KINDS = ("multiple choice", "numerical", "OCR", "free-form", "regression")


def row(number: int, **other: object) -> dict:
    kind = KINDS[number % 5]
    return {
        "problem_id": number,
        "problem": f"what is in clip {number}?",
        "problem_type": kind,
        "options": ["A. a dog", "B. a cat"] if kind == "multiple choice" else [],
        "data_type": "video" if number % 2 else "image",
        "path": f"./media/{number}.mp4",
        "solution": "<answer>B</answer>",
        "process": "<think>it meows</think>",
        **other,
    }


@pytest.fixture
def write(tmp_path):
    ledger.reset()
    (tmp_path / "media").mkdir()
    for number in range(200):
        (tmp_path / "media" / f"{number}.mp4").touch()

    def written(rows: list) -> str:
        (tmp_path / "data.json").write_text(json.dumps(rows))
        return str(tmp_path / "data.json")

    return written


def test_a_row_becomes_a_task(write):
    path = write([row(5), row(6)])
    first, second = video_r1("train", path=path, held_out=0.0)
    parts = first.prompt[0]["content"]
    assert [p["type"] for p in parts] == ["video", "text"] and first.media[0].kind == "video"
    assert parts[1]["text"] == (
        f"what is in clip 5?\nOptions:\nA. a dog\nB. a cat\n\n{INSTRUCTION} {SUFFIX['multiple choice']}"
    )
    assert first.media[0].path.endswith("media/5.mp4") and first.columns["problem_type"] == "multiple choice"
    assert first.demonstration is None and first.tags == ("video", "multiple choice")
    assert second.prompt[0]["content"][0] == {"type": "image"} and second.prompt[0]["content"][1]["text"].endswith(
        SUFFIX["numerical"]
    )
    answered = Rollout(first, "g", Prompt([1]), [2], [True], [0.0], "<think>x</think><answer>B</answer>", "eos")
    assert multiple_choice([answered]) == [1.0], "the tags around the gold answer do not count"


def test_demonstrations_are_process_and_solution(write):
    found = video_r1("train", path=write([row(1)]), held_out=0.0, demonstrations=True)
    assert found[0].demonstration == "<think>it meows</think>\n<answer>B</answer>"


def test_rows_are_chosen_by_media_and_type(write):
    path = write([row(i) for i in range(20)])
    assert {t.tags[0] for t in video_r1("train", path=path, held_out=0.0, data="video")} == {"video"}
    chosen = video_r1("train", path=path, held_out=0.0, types=("OCR", "regression"))
    assert {t.tags[1] for t in chosen} == {"OCR", "regression"} and len(chosen) == 8
    assert len(video_r1("train", path=path, held_out=0.0, limit=3)) == 3


def test_splits_share_no_medium(write):
    path = write([row(i, path=f"./media/{i // 2}.mp4") for i in range(200)])
    train, test = (video_r1(split, path=path, held_out=0.3) for split in ("train", "test"))
    assert len(train) + len(test) == 200 and 30 < len(test) < 90
    assert not {t.media[0].path for t in train} & {t.media[0].path for t in test}


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        ({"path": "./media/none.mp4"}, "media file missing"),
        ({"solution": None}, "no solution"),
        ({"problem_type": "poem"}, "unknown problem_type"),
        ({"data_type": "sound"}, "unknown data_type"),
        ({"problem_type": "multiple choice", "options": []}, "multiple choice without options"),
    ],
)
def test_a_bad_row_is_counted_and_never_replaced(write, bad, cause):
    path = write([row(1), row(2, **bad), row(3)])
    found = video_r1("train", path=path, held_out=0.0)
    assert [t.id for t in found] == ["1", "3"]
    assert [(r["cause"], r["count"]) for r in ledger.current().rows()] == [(cause, 1)]


def test_too_many_bad_rows_stop_the_run(write):
    with pytest.raises(DataError, match="media file missing"):
        video_r1("train", path=write([row(i, path="./none.mp4") for i in range(2)] + [row(4)]), held_out=0.0)


def test_what_cannot_be_read_is_a_sentence(write, tmp_path):
    with pytest.raises(DataError, match="Video-R1/Video-R1-data"):
        video_r1("train", path=str(tmp_path / "none.json"))
    with pytest.raises(DataError, match="no rows"):
        video_r1("train", path=write([]))
    (tmp_path / "cut.json").write_text('[{"problem": ')
    with pytest.raises(DataError, match="not valid JSON"):
        video_r1("train", path=str(tmp_path / "cut.json"))
    with pytest.raises(ConfigError, match="no split 'dev'"):
        video_r1("dev", path=write([row(1)]))
    with pytest.raises(ConfigError, match="poem"):
        video_r1("train", path=write([row(1)]), types=("poem",))
    with pytest.raises(DataError, match="leaves no test rows"):
        video_r1("test", path=write([row(1)]), held_out=0.0)
