"""Made-up preferences between two rendered images: which of them shows what is asked for?"""

import random
from collections.abc import Sequence

import numpy as np

from rlpost.errors import ConfigError
from rlpost.media.draw import COLOURS, SHAPES, SIZE, backdrop, put
from rlpost.types import Media, Task

CHOICES = ("A", "B")
SPLITS = ("train", "validation", "test")


def image_pairs(split: str, *, train: int = 512, validation: int = 0, test: int = 128, seed: int = 0) -> Sequence[Task]:
    """Two images of one shape each, told apart by colour or shape, and a description that one of them meets.

    The column `choices` holds A (the first image) and B; the demonstration looks at both images and then answers. Its
    words are those of model=video_tiny.

    Edge cases: splits are drawn apart from each other, image by image.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    if split not in sizes:
        raise ConfigError(f"dataset=image_pairs has no split {split!r}; choose one of {', '.join(SPLITS)}")
    return [_task(split, i, random.Random(f"{seed}/{split}/{i}")) for i in range(sizes[split])]


def _task(split: str, i: int, rng: random.Random) -> Task:
    wanted = (rng.choice(list(COLOURS)), rng.choice(SHAPES))
    by_colour = rng.random() < 0.5
    other = (
        (rng.choice([name for name in COLOURS if name != wanted[0]]), wanted[1])
        if by_colour
        else (wanted[0], rng.choice([name for name in SHAPES if name != wanted[1]]))
    )
    right = rng.randrange(2)
    shown = (wanted, other) if right == 0 else (other, wanted)
    question = f"in which view is a {wanted[0]} {wanted[1]} ? A first B second"
    (one, shape), (two, second) = shown
    think = f"the first is a {one} {shape} the second is a {two} {second} so {CHOICES[right]}"
    pictures = [{"type": "image"}, {"type": "image"}]
    return Task(
        id=f"image-pairs-{split}-{i}",
        prompt=({"role": "user", "content": [*pictures, {"type": "text", "text": question}]},),
        answer=CHOICES[right],
        media=tuple(Media("image", frames=_drawn(rng, *what)) for what in shown),
        columns={"choices": list(CHOICES), "told_by": "colour" if by_colour else "shape"},
        demonstration=f"<think> {think} </think> <answer> {CHOICES[right]} </answer>",
        tags=("colour",) if by_colour else ("shape",),
    )


def _drawn(rng: random.Random, colour: str, shape: str) -> np.ndarray:
    """One image (H,W,3) uint8."""
    [frame] = backdrop(rng, 1)
    put(frame, shape, colour, rng.uniform(16, SIZE - 16), rng.uniform(16, SIZE - 16), rng.uniform(10, 14))
    return frame
