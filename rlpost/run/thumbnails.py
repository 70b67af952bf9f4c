"""Small pictures of a video for the report: a few frames as base64 JPEGs, about a kilobyte each."""

import base64
import io
from collections.abc import Sequence

import numpy as np


def strip(frames: Sequence[np.ndarray], most: int = 8, height: int = 64) -> list[str]:
    """At most `most` evenly spaced frames of (H,W,3) uint8, first and last included: a record's `thumbnails`."""
    from PIL import Image

    if not len(frames):
        return []
    places = np.linspace(0, len(frames) - 1, num=min(most, len(frames))).round().astype(int)
    return [_jpeg(Image.fromarray(np.asarray(frames[place])), height) for place in places]


def _jpeg(picture, height: int) -> str:
    width = max(1, round(picture.width * height / picture.height))
    stream = io.BytesIO()
    picture.resize((width, height)).save(stream, "JPEG", quality=60)
    return base64.b64encode(stream.getvalue()).decode("ascii")
