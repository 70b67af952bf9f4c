"""The decoding process: reads one JSON request per line, answers with a header and raw frames. Its parent may kill it.

Decoders of real files crash and hang; neither may take the training process with them. `rlpost.media.decode` starts it.
"""

import contextlib
import json
import struct
import sys
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import InvalidDataError
from av.video.reformatter import VideoReformatter
from PIL import Image

from rlpost.media import picture
from rlpost.media.sample import FrameSettings, frame_count, frame_indices, frames_asked, sampled_fps, smart_resize

# By default FFmpeg paints over what it cannot decode and says nothing; "careful" refuses what no real file does.
STRICT = {"err_detect": "careful+explode"}

# A playlist that calls itself a video may name addresses; only files of this machine are opened.
LOCAL = {"protocol_whitelist": "file"}


def main() -> None:
    out = sys.stdout.buffer
    for line in sys.stdin:
        request = json.loads(line)
        try:
            frames, facts = image(request) if request["kind"] == "image" else video(request)
        # The answer to any failure is the same sentence for the parent, which raises it there.
        except Exception as error:
            reply(out, {"error": f"{type(error).__name__}: {error}"}, b"")
        else:
            reply(out, {"shape": list(frames.shape), **facts}, frames.tobytes())


def reply(out: BinaryIO, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps({**header, "bytes": len(body)}).encode()
    out.write(struct.pack("<I", len(text)) + text + body)
    out.flush()


def image(request: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """One image at its own size; the media encoder resizes it as the model's image processor does."""
    with picture.opened(request["path"]) as opened:
        frames = picture.frame_count(opened)
        opened.seek(0)
        return picture.rgb(opened)[None], {"fps": 0.0, "size": [opened.height, opened.width], "asked": frames}


def video(request: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """The sampled frames of a window, resized; `size` is the video's own, `asked` the frames that `fps` asks for."""
    settings = FrameSettings(**request["settings"])
    stamps, video_fps = timestamps(request["path"], request["start_s"], request["end_s"])
    count = frame_count(len(stamps), video_fps, settings)
    wanted = [stamps[i] for i in frame_indices(len(stamps), count)]
    found, size = read(request["path"], set(wanted), settings)
    missing = [stamp for stamp in wanted if stamp not in found]
    if missing:
        raise ValueError(f"{len(missing)} of {count} sampled frames are missing from the stream")
    facts = {
        "fps": sampled_fps(len(stamps), count, video_fps),
        "size": size,
        "asked": frames_asked(len(stamps), video_fps, settings),
    }
    return np.stack([found[stamp] for stamp in wanted]), facts


def timestamps(path: str, start_s: float | None, end_s: float | None) -> tuple[list[int], float]:
    """Presentation times of the frames in the window, in units of the stream, and the rate of the file."""
    with av.open(path, options=LOCAL) as container:
        if not container.streams.video:
            raise ValueError("the file has no video stream")
        stream = container.streams.video[0]
        stamps = sorted({p.pts for p in container.demux(stream) if p.pts is not None and p.size})
        if not stamps:
            raise ValueError("the video stream is empty")
        base = float(stream.time_base or 1)
        span = (stamps[-1] - stamps[0]) * base
        fps = float(stream.average_rate) if stream.average_rate else (len(stamps) - 1) / max(span, 1e-6)
    first = stamps[0] * base
    if fps <= 0:
        raise ValueError(f"the video has {len(stamps)} frame(s) and no frame rate")
    # Half a frame of slack: a window that starts at 1.0 s includes the frame stamped 0.9999 s.
    slack = 0.5 / fps
    low = -1.0 if start_s is None else start_s - slack
    high = float("inf") if end_s is None else end_s - slack
    inside = [s for s in stamps if low <= s * base - first < high]
    if not inside:
        raise ValueError(f"no frame between {start_s} s and {end_s} s: the video lasts {span:.2f} s")
    return inside, fps


def read(path: str, wanted: set[int], settings: FrameSettings) -> tuple[dict[int, np.ndarray], list[int]]:
    """The wanted frames, resized, and their own size. Raises where any frame on the way to them is damaged."""
    found, size = {}, [0, 0]
    with contextlib.suppress(InvalidDataError):
        found, size = _read(path, wanted, settings, seek=True)
    if len(found) == len(wanted):
        return found, size
    # Frames behind a keyframe may refer to frames before it (an open group of pictures), and some containers cannot
    # seek to a time: from the beginning all of them are there.
    return _read(path, wanted, settings, seek=False)


def _read(
    path: str, wanted: set[int], settings: FrameSettings, *, seek: bool
) -> tuple[dict[int, np.ndarray], list[int]]:
    """Decode from the keyframe before the first wanted frame, or the beginning, to the last wanted one."""
    found: dict[int, np.ndarray] = {}
    size = [0, 0]
    # One converter for all frames: a frame's own costs ten times as much, since it is set up anew.
    convert = VideoReformatter()
    with av.open(path, options=LOCAL) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.options = STRICT
        if seek:
            container.seek(min(wanted), stream=stream)
        last = max(wanted)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                size = [frame.height, frame.width]
                found[frame.pts] = resized(convert.reformat(frame, format="rgb24").to_ndarray(), settings)
            if frame.pts is not None and frame.pts >= last:
                break
    return found, size


def resized(frame: np.ndarray, settings: FrameSettings) -> np.ndarray:
    height, width = smart_resize(
        *frame.shape[:2], factor=settings.factor, min_pixels=settings.min_pixels, max_pixels=settings.max_pixels
    )
    return resize(frame, height, width)


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bicubic, as the models' own processors; a frame that already fits is left alone."""
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
