"""A medium that is cut, damaged, empty or mislabelled is counted, never decoded to something else."""

import pytest

pytest.importorskip("av")

from rlpost import ledger
from rlpost.media import worker
from scripts import fuzz_inputs
from scripts.malformed import media


@pytest.fixture(scope="module")
def encoders():
    made = fuzz_inputs.Encoders()
    yield made
    made.close()


def test_every_kind_is_answered(encoders, tmp_path):
    told = [
        fuzz_inputs.tried(case, encoders) for case in fuzz_inputs.cases(media.MAKERS, len(media.MAKERS), 0, tmp_path)
    ]
    assert [(one.case.kind, one.verdict, one.text) for one in told if one.verdict in fuzz_inputs.FAULTS] == []
    sound = {one.case.kind for one in told if one.verdict == "used"}
    assert sound == {one.case.kind for one in told if one.case.kind.startswith("sound:")}
    assert {one.verdict for one in told if one.case.kind not in sound} == {"counted"}


def test_an_animation_that_is_shown_by_its_first_frame_is_counted(encoders, tmp_path):
    """A GIF of 4 frames of 60 by 60 pixels: 2 by 2 tokens of 28 pixels each, for 3 frames that are not shown."""
    case = media.MAKERS["sound: animated GIF, its first frame"](fuzz_inputs.random.Random(0), tmp_path)
    assert fuzz_inputs.tried(case, encoders).verdict == "used"
    (row,) = ledger.current().rows()
    assert (row["kind"], row["cause"], row["count"], row["lost"]) == (
        "shrink",
        "an animated image shown by its first frame",
        1,
        3 * 2 * 2,
    )


def test_a_damaged_video_is_refused_only_because_the_decoder_is_told_to(encoders, tmp_path, monkeypatch):
    """FFmpeg's own way is to paint over the damage and to say nothing."""
    path = tmp_path / "odd.mp4"
    path.write_bytes(media.damaged(fuzz_inputs.random.Random(1)))
    settings = encoders.media.media.frames
    request = {"path": str(path), "start_s": None, "end_s": None, "settings": settings.as_dict()}
    with pytest.raises(worker.InvalidDataError):
        worker.video(request)
    monkeypatch.setattr(worker, "STRICT", {})
    assert len(worker.video(request)[0]) == 8
