"""Which frames are taken and at what size: golden numbers, and transformers' own resizing as the oracle."""

import random

import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as theirs

from rlpost.media.sample import FrameSettings, frame_count, frame_indices, sampled_fps, smart_resize


@pytest.mark.parametrize(
    ("total", "video_fps", "count"),
    [
        (250, 25.0, 16),  # 10 s ask for 20 frames, 16 at most
        (75, 25.0, 6),  # 3 s ask for 6
        (90, 25.0, 6),  # 3.6 s ask for 7.2: an even number below
        (30, 30.0, 4),  # 1 s asks for 2, 4 at least
        (3, 30.0, 2),  # no more than there are
    ],
)
def test_frame_count(total, video_fps, count):
    assert frame_count(total, video_fps, FrameSettings()) == count


def test_frame_count_needs_two_frames():
    with pytest.raises(ValueError, match="1 frame"):
        frame_count(1, 25.0, FrameSettings())


def test_odd_limits_become_even():
    assert frame_count(250, 25.0, FrameSettings(max_frames=15)) == 14
    assert frame_count(30, 30.0, FrameSettings(min_frames=5)) == 6


def test_frames_are_spread_evenly_from_the_first_to_the_last():
    assert frame_indices(16, 8) == [0, 2, 4, 6, 9, 11, 13, 15]
    assert frame_indices(250, 6) == [0, 50, 100, 149, 199, 249]
    assert frame_indices(4, 4) == [0, 1, 2, 3]
    assert frame_indices(4, 1) == [0]


def test_sampled_fps():
    assert sampled_fps(250, 16, 25.0) == pytest.approx(1.6)
    assert sampled_fps(16, 8, 8.0) == pytest.approx(4.0)


def test_smart_resize_equals_transformers():
    rng = random.Random(0)
    for _ in range(300):
        height, width = rng.randint(20, 2000), rng.randint(20, 2000)
        low = rng.choice([3136, 100352])
        high = low * rng.choice([1, 3, 7])
        ours = smart_resize(height, width, factor=28, min_pixels=low, max_pixels=high)
        assert ours == theirs(height, width, factor=28, min_pixels=low, max_pixels=high)


def test_smart_resize_refuses_a_line():
    with pytest.raises(ValueError, match="1:200"):
        smart_resize(3, 700, factor=28, min_pixels=3136, max_pixels=100352)
