"""Real files through the worker: the right frames come back, and a bad or hanging file is a sentence."""

import pickle
import sys
import time

import numpy as np
import pytest

pytest.importorskip("av")

import av
from PIL import Image

from rlpost.media.decode import DecodeError, Decoder
from rlpost.media.sample import FrameSettings
from rlpost.media.write import write_mp4
from rlpost.types import Media

SMALL = FrameSettings(fps=4.0, max_frames=8, min_pixels=56 * 56, max_pixels=56 * 56)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """24 frames at 8 per second; frame i is grey with brightness 10 * i."""
    path = tmp_path_factory.mktemp("clips") / "grey.mp4"
    write_mp4(path, np.stack([np.full((56, 56, 3), 10 * i, np.uint8) for i in range(24)]), 8)
    return path


@pytest.fixture
def decoder():
    made = Decoder(SMALL, limit_s=20.0)
    yield made
    made.close()


def shown(frames: np.ndarray) -> list[int]:
    """The number of the frame that each frame is, from its brightness."""
    return [round(float(f.mean()) / 10) for f in frames]


def test_sampled_frames_are_the_right_ones(clip, decoder):
    found = decoder(Media("video", str(clip)))
    assert found.frames.shape == (8, 56, 56, 3) and found.frames.dtype == np.uint8
    assert shown(found.frames) == [0, 3, 7, 10, 13, 16, 20, 23]
    assert found.fps == pytest.approx(8 / 24 * 8)


def test_a_window_is_cut_by_time(clip, decoder):
    """From 1 s up to, without, 2 s: frames 8 to 15, four of them."""
    found = decoder(Media("video", str(clip), start_s=1.0, end_s=2.0))
    assert shown(found.frames) == [8, 10, 13, 15]
    assert found.fps == pytest.approx(4.0)


@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_frames_behind_an_open_group_of_pictures_are_found(container, tmp_path, decoder):
    """Pictures before a keyframe in time may stand behind it in the file; a transport stream cannot seek to them."""
    path = tmp_path / f"open.{container}"
    with av.open(str(path), "w") as written:
        options = {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0", "crf": "10"}
        stream = written.add_stream("libx264", rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 56, 56, "yuv420p"
        for i in range(24):
            grey = av.VideoFrame.from_ndarray(np.full((56, 56, 3), 10 * i, np.uint8), format="rgb24")
            written.mux(stream.encode(grey))
        written.mux(stream.encode())
    assert shown(decoder(Media("video", str(path), start_s=0.875, end_s=1.875)).frames) == [7, 9, 12, 14]


def test_frames_are_resized_to_the_limits(clip):
    big = Decoder(FrameSettings(fps=4.0, min_pixels=84 * 84, max_pixels=84 * 84))
    assert big(Media("video", str(clip))).frames.shape[1:3] == (84, 84)
    big.close()


def test_an_image_comes_at_its_own_size(tmp_path, decoder):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = decoder(Media("image", str(tmp_path / "a.png")))
    assert np.array_equal(found.frames[0], pixels)


def test_bad_files_are_named_with_a_cause(clip, tmp_path, decoder):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:600])
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cases = {tmp_path / "none.mp4": "file missing", cut: "decode error", text: "decode error"}
    for path, cause in cases.items():
        with pytest.raises(DecodeError, match=path.name) as raised:
            decoder(Media("video", str(path)))
        assert raised.value.cause == cause and raised.value.exit_code == 3
    with pytest.raises(DecodeError, match="no frame between"):
        decoder(Media("video", str(clip), start_s=9.0, end_s=10.0))
    assert len(decoder(Media("video", str(clip))).frames) == 8, "the worker goes on after an error"


def test_a_hanging_worker_is_ended_in_time(clip, decoder):
    good, decoder.command = decoder.command, [sys.executable, "-c", "import time; time.sleep(60)"]
    decoder.limit_s, began = 0.5, time.monotonic()
    with pytest.raises(DecodeError, match="timeout"):
        decoder(Media("video", str(clip)))
    assert time.monotonic() - began < 10
    assert decoder.worker is None, "the worker was ended"
    decoder.command, decoder.limit_s = good, 20.0
    assert len(decoder(Media("video", str(clip))).frames) == 8


def test_a_worker_that_dies_is_reported(clip, decoder):
    decoder.command = [sys.executable, "-c", "input(); raise SystemExit(3)"]
    with pytest.raises(DecodeError, match="decoder died"):
        decoder(Media("video", str(clip)))


def test_decoded_clips_are_kept_up_to_the_limit(clip):
    one = 8 * 56 * 56 * 3
    decoder = Decoder(SMALL, cache_mb=1.5 * one / 2**20)
    whole, window = Media("video", str(clip)), Media("video", str(clip), start_s=0.0, end_s=2.0)
    first = decoder(whole)
    assert decoder(whole) is first
    decoder(window)
    assert decoder.held <= decoder.cache_bytes
    assert decoder(whole) is not first, "the oldest made room"
    decoder.close()


def test_a_decoder_can_be_sent_to_another_process(clip, decoder):
    decoder(Media("video", str(clip)))
    copy = pickle.loads(pickle.dumps(decoder))
    assert copy.worker is None and copy.settings == SMALL
    assert shown(copy(Media("video", str(clip))).frames) == [0, 3, 7, 10, 13, 16, 20, 23]
    copy.close()
