"""Which frames of a video are seen and at what size: arithmetic shared by the worker and the media encoder."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FrameSettings:
    """How a video becomes frames. Pixels are per frame; `factor` is patch size times spatial merge of the model."""

    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 16
    frame_factor: int = 2
    min_pixels: int = 128 * 28 * 28
    max_pixels: int = 128 * 28 * 28
    factor: int = 28

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def frame_count(total: int, video_fps: float, settings: FrameSettings) -> int:
    """How many of `total` frames are taken: what `fps` asks for, within the limits, a multiple of `frame_factor`."""
    factor = settings.frame_factor
    if total < factor:
        raise ValueError(f"the window holds {total} frame(s), at least {factor} are needed: widen it")
    lowest = math.ceil(settings.min_frames / factor) * factor
    highest = math.floor(min(settings.max_frames, total) / factor) * factor
    wanted = min(max(total / video_fps * settings.fps, lowest), highest)
    return max(math.floor(wanted / factor) * factor, factor)


def frames_asked(total: int, video_fps: float, settings: FrameSettings) -> int:
    """How many of `total` frames `fps` asks for, before `max_frames`: what a longer budget would show."""
    wanted = min(max(total / video_fps * settings.fps, settings.min_frames), total)
    return math.floor(wanted / settings.frame_factor) * settings.frame_factor


def frame_indices(total: int, count: int) -> list[int]:
    """`count` indices spread evenly over the window, the first and the last frame included."""
    if count == 1:
        return [0]
    return [round(i * (total - 1) / (count - 1)) for i in range(count)]


def sampled_fps(total: int, count: int, video_fps: float) -> float:
    """Frames per second after sampling: what the temporal positions of the model are computed from."""
    return count / total * video_fps


def smart_resize(height: int, width: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """The size nearest to the medium's own whose sides divide by `factor` and whose area lies within the limits."""
    if max(height, width) > 200 * min(height, width):
        raise ValueError(f"a frame of {height}x{width} pixels is narrower than 1:200: crop it")
    tall, wide = round(height / factor) * factor, round(width / factor) * factor
    if tall * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        tall = max(factor, math.floor(height / shrink / factor) * factor)
        wide = max(factor, math.floor(width / shrink / factor) * factor)
    elif tall * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide
