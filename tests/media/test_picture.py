"""Pictures as 8-bit RGB: what PIL would change in silence is changed on purpose, or refused."""

import io

import numpy as np
import pytest
from PIL import Image

from rlpost.media import picture


def test_sixteen_bits_keep_their_upper_eight():
    """PIL's own conversion gives 255 for every value above 255."""
    values = np.array([[0, 255, 256], [25_600, 40_000, 65_535]], np.uint16)
    shown = picture.rgb(Image.fromarray(values))
    assert shown.shape == (2, 3, 3) and shown.dtype == np.uint8
    assert shown[..., 0].tolist() == [[0, 0, 1], [100, 156, 255]]  # 40000 / 256 = 156.25
    assert (shown[..., 0] == shown[..., 1]).all() and (shown[..., 0] == shown[..., 2]).all()


def test_pixels_without_a_range_are_refused():
    for values in (np.array([[0.5]], np.float32), np.array([[-1]], np.int32), np.array([[70_000]], np.int32)):
        with pytest.raises(ValueError, match="no fixed range"):
            picture.rgb(Image.fromarray(values))


def test_an_image_above_the_limit_is_an_error_and_not_a_warning(monkeypatch):
    """PIL warns up to twice its limit, and only then refuses."""
    stream = io.BytesIO()
    Image.new("L", (15, 10)).save(stream, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombWarning):
        picture.opened(stream)


def test_only_animations_have_several_frames():
    still, moving = io.BytesIO(), io.BytesIO()
    first, second = Image.new("L", (4, 4), 1), Image.new("L", (4, 4), 99)
    first.save(still, "TIFF", save_all=True, append_images=[second])  # pages
    first.save(moving, "GIF", save_all=True, append_images=[second])
    assert [picture.frame_count(picture.opened(stream)) for stream in (still, moving)] == [1, 2]
