"""Thumbnails of frames."""

import base64
import io

import numpy as np
import pytest

from rlpost.run.thumbnails import strip

Image = pytest.importorskip("PIL.Image")


def brightness(picture: str) -> float:
    return float(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).mean())


def test_frames_are_spread_over_the_clip_in_order():
    frames = np.stack([np.full((32, 48, 3), 10 * index, dtype=np.uint8) for index in range(20)])
    pictures = strip(frames, most=5, height=16)
    # 20 frames, 5 places: 0, 4.75, 9.5, 14.25, 19, rounded to 0, 5, 10, 14, 19
    assert [round(brightness(picture)) for picture in pictures] == pytest.approx([0, 50, 100, 140, 190], abs=2)
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (24, 16)
    assert all(len(picture) < 2000 for picture in pictures)


def test_short_clips_show_every_frame():
    frames = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    assert len(strip(frames, most=8)) == 3
    assert strip(frames[:0]) == []
