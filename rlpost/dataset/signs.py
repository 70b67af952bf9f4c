"""Images whose answer is too small to read at the size a model sees them: coloured squares with a letter in each."""

import random
from collections.abc import Sequence

import numpy as np

from rlpost.errors import ConfigError
from rlpost.media import draw
from rlpost.types import Media, Task


def signs(
    split: str,
    *,
    train: int = 256,
    validation: int = 0,
    test: int = 64,
    size: int = 224,
    seed: int = 0,
) -> Sequence[Task]:
    """Which letter is in the square of a colour? Four squares in `size` x `size` pixels, one in each quarter.

    At 56 x 56 a letter of 224 is three pixels high; a quarter of the image, seen at 56 x 56, has it in seven. `region`
    holds [x1, y1, x2, y2] of the wanted square.

    Edge cases: splits are drawn from different seeds. Images are rendered when the split is loaded, and kept.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    if split not in sizes:
        raise ConfigError(f"dataset=signs has no split {split!r}; choose one of {', '.join(sizes)}")
    if size < 112:
        raise ConfigError(f"dataset.size={size} is too small for four squares with letters; choose 112 or more")
    return [_task(split, i, size, random.Random(f"{seed}/{split}/{i}")) for i in range(sizes[split])]


def _task(split: str, number: int, size: int, rng: random.Random) -> Task:
    side, half, scale = size // 4, size // 2, max(1, size // 112)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(120, 6, (size, size, 3))
    frame = np.clip(noise, 0, 255).astype(np.uint8)
    colours, letters = rng.sample(list(draw.COLOURS), 4), rng.sample(list(draw.LETTERS), 4)
    corners = []
    for quarter, (colour, letter) in enumerate(zip(colours, letters, strict=True)):
        x, y = (half * part + rng.randint(4, half - side - 4) for part in (quarter % 2, quarter // 2))
        frame[y : y + side, x : x + side] = draw.COLOURS[colour]
        draw.write(frame, letter, x + (side - 5 * scale) // 2, y + (side - 7 * scale) // 2, scale)
        corners.append((x, y))
    chosen = rng.randrange(4)
    x, y = corners[chosen]
    text = f"which letter is in the {colours[chosen]} square ?"
    return Task(
        id=f"signs-{split}-{number}",
        prompt=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]},),
        answer=letters[chosen],
        media=(Media("image", frames=frame[None]),),
        columns={"region": [x, y, x + side, y + side], "colour": colours[chosen], "split": split},
        tags=(colours[chosen],),
    )
