"""One picture as 8-bit RGB. What PIL would change without a word is changed here on purpose, or refused."""

import warnings
from typing import Any

import numpy as np

# Formats whose further frames are an animation; a camera's MPO holds views, a TIFF pages.
ANIMATED = ("GIF", "WEBP", "PNG")


def opened(file: Any) -> Any:
    """PIL's image of a path or a stream; an image larger than PIL's limit is an error, not a warning."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(file)


def rgb(image: Any) -> np.ndarray:
    """(H,W,3) uint8 of a PIL image; of an animation the first frame. Raises ValueError for pixels without a range.

    Images of 16 bits keep their upper eight: PIL's own conversion makes everything above 255 white.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return np.repeat(_grey(np.asarray(image), image.mode)[..., None], 3, axis=-1)
    return np.asarray(image.convert("RGB"))


def frame_count(image: Any) -> int:
    """Frames of an animation, 1 for any other image."""
    return int(getattr(image, "n_frames", 1)) if image.format in ANIMATED else 1


def _grey(values: np.ndarray, mode: str) -> np.ndarray:
    if mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"pixels of mode {mode} have no fixed range: convert the image to 8 bits per channel")
    return (values.astype(np.uint32) >> 8).astype(np.uint8)
