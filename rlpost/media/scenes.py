"""Rendered clips with a question, its answer and a rationale that goes through the clip part by part.

A clip has FRAMES frames at RATE per second, two seconds that the tiny model sees in four parts. Every function takes a
random generator and returns a Scene, tagged `time` when shuffling the frames destroys its answer, else `other`.
"""

import random
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from rlpost.media.draw import COLOURS, LETTERS, SHAPES, SIZE, backdrop, put, write, zone

FRAMES, RATE, PARTS = 16, 8, 4
Kind = Literal["multiple choice", "numerical", "OCR", "free-form", "regression"]


class Scene(NamedTuple):
    """Frames (F,H,W,3) uint8 and what is asked about them. `think` is the rationale of the demonstration."""

    frames: np.ndarray
    problem_type: Kind
    question: str
    answer: str
    think: str
    needs: Literal["time", "other"]
    options: tuple[str, ...] = ()


def choice(
    frames: np.ndarray, question: str, options: tuple[str, ...], right: str, think: str, needs: Literal["time", "other"]
) -> Scene:
    """A multiple-choice scene. Options keep their order: a model of this size does not learn permuted letters."""
    return Scene(
        frames, "multiple choice", question, "ABCD"[options.index(right)], f"{think} so {right}", needs, options
    )


def middle(part: int) -> float:
    """The frame, as a fraction of the clip from 0 to 1, in the middle of a part."""
    return (part + 0.5) / PARTS


def _looks(rng: random.Random) -> tuple[str, str, float]:
    return rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.uniform(6, 9)


def _path(rng: random.Random) -> tuple[str, Callable[[float], tuple[float, float]]]:
    """A direction and the position at a fraction of the clip."""
    way = rng.choice(("left", "right", "up", "down"))
    length = rng.uniform(24, 36)
    start, across = rng.uniform(9, SIZE - 9 - length), rng.uniform(10, SIZE - 10)

    def at(u: float) -> tuple[float, float]:
        along = start + length * (u if way in ("right", "down") else 1 - u)
        return (along, across) if way in ("left", "right") else (across, along)

    return way, at


def _moving(rng: random.Random, at: Callable[[float], tuple[float, float]]) -> tuple[np.ndarray, str, str, str]:
    shape, colour, radius = _looks(rng)
    frames = backdrop(rng, FRAMES)
    for i, frame in enumerate(frames):
        put(frame, shape, colour, *at(i / (FRAMES - 1)), radius)
    zones = " ".join(zone(*at(middle(part))) for part in range(PARTS))
    return frames, shape, colour, zones


def direction(rng: random.Random) -> Scene:
    way, at = _path(rng)
    frames, shape, _, zones = _moving(rng, at)
    return choice(frames, f"which way does the {shape} move ?", ("left", "right", "up", "down"), way, zones, "time")


def happens(rng: random.Random) -> Scene:
    way, at = _path(rng)
    frames, shape, colour, zones = _moving(rng, at)
    answer = f"the {colour} {shape} moves {way}"
    return Scene(frames, "free-form", "what happens ?", answer, f"{zones} so {way}", "time")


def arrow(rng: random.Random) -> Scene:
    """A ball falls, faster and faster, or the same played backwards."""
    forwards = rng.random() < 0.5
    height, top, x = rng.uniform(28, 36), rng.uniform(8, 12), rng.uniform(10, SIZE - 10)

    def at(u: float) -> tuple[float, float]:
        return x, top + height * (u if forwards else 1 - u) ** 2

    frames, _, _, zones = _moving(rng, at)
    answer = "forwards" if forwards else "backwards"
    return choice(
        frames, "is the fall played forwards or backwards ?", ("forwards", "backwards"), answer, zones, "time"
    )


def first(rng: random.Random) -> Scene:
    """Two shapes appear one after the other."""
    one, two = rng.sample(list(COLOURS), 2)
    parts = sorted(rng.sample(range(PARTS), 2))
    frames, seen = backdrop(rng, FRAMES), ["none"] * PARTS
    for colour, part in zip((one, two), parts, strict=True):
        shape, _, radius = _looks(rng)
        x, y = rng.uniform(9, 47), rng.uniform(9, 47)
        seen[part] = colour
        for frame in _during(frames, part, part + 1):
            put(frame, shape, colour, x, y, radius)
    return choice(frames, "which colour appears first ?", tuple(COLOURS), one, " ".join(seen), "time")


def colour(rng: random.Random) -> Scene:
    _, at = _path(rng)
    frames, shape, name, _ = _moving(rng, at)
    return choice(frames, f"what colour is the {shape} ?", tuple(COLOURS), name, f"the {shape} is {name}", "other")


def turn(rng: random.Random) -> Scene:
    """A shape that stands still changes its colour: in which part?"""
    shape, before, radius = _looks(rng)
    after = rng.choice([name for name in COLOURS if name != before])
    part = rng.randint(1, PARTS - 1)
    x, y = rng.uniform(12, 44), rng.uniform(12, 44)
    frames = backdrop(rng, FRAMES)
    for name, low, high in ((before, 0, part), (after, part, PARTS)):
        for frame in _during(frames, low, high):
            put(frame, shape, name, x, y, radius)
    seen = " ".join(before if i < part else after for i in range(PARTS))
    question = f"in which part does the {shape} change ?"
    return Scene(frames, "numerical", question, str(part + 1), f"{seen} so {part + 1}", "time")


def count(rng: random.Random) -> Scene:
    """One to four shapes stand in different quarters."""
    number = rng.randint(1, 4)
    quarters = [(14, 14), (42, 14), (14, 42), (42, 42)]
    taken = sorted(rng.sample(range(4), number))
    frames = backdrop(rng, FRAMES)
    for index in taken:
        shape, name, radius = _looks(rng)
        x, y = (c + rng.uniform(-4, 4) for c in quarters[index])
        for frame in frames:
            put(frame, shape, name, x, y, radius)
    think = " ".join(zone(*quarters[index]) for index in taken) + f" so {number}"
    return Scene(frames, "numerical", "how many shapes are shown ?", str(number), think, "other")


def when(rng: random.Random) -> Scene:
    """A shape appears and stays: after how many seconds?"""
    shape, name, radius = _looks(rng)
    part = rng.randint(1, PARTS - 1)
    x, y = rng.uniform(12, 44), rng.uniform(12, 44)
    frames = backdrop(rng, FRAMES)
    for frame in _during(frames, part, PARTS):
        put(frame, shape, name, x, y, radius)
    seen = " ".join("none" if i < part else name for i in range(PARTS))
    seconds = f"{part * FRAMES / PARTS / RATE:.1f}"
    return Scene(frames, "regression", f"when does the {shape} appear ?", seconds, f"{seen} so {seconds}", "time")


def distance(rng: random.Random) -> Scene:
    """How far a shape gets, in pixels rounded to fives."""
    far = rng.choice((10, 15, 20, 25, 30, 35))
    start, across = rng.uniform(9, SIZE - 9 - far), rng.uniform(10, SIZE - 10)
    flip, upright = rng.random() < 0.5, rng.random() < 0.5

    def at(u: float) -> tuple[float, float]:
        along = start + far * (1 - u if flip else u)
        return (across, along) if upright else (along, across)

    frames, shape, _, zones = _moving(rng, at)
    return Scene(frames, "regression", f"how far does the {shape} move ?", str(far), f"{zones} so {far}", "other")


def spell(rng: random.Random) -> Scene:
    """Two letters, one after the other."""
    one, two = rng.sample(list(LETTERS), 2)
    part = rng.randint(1, PARTS - 1)
    x, y = rng.randint(4, 22), rng.randint(4, 10)
    frames = backdrop(rng, FRAMES)
    for letter, low, high in ((one, 0, part), (two, part, PARTS)):
        for frame in _during(frames, low, high):
            write(frame, letter, x, y, 6)
    seen = " ".join(one if i < part else two for i in range(PARTS))
    return Scene(frames, "OCR", "which letters appear ?", f"{one} {two}", f"{seen} so {one} {two}", "time")


def sign(rng: random.Random) -> Scene:
    """Two letters side by side."""
    left, right = rng.sample(list(LETTERS), 2)
    y = rng.randint(6, 22)
    frames = backdrop(rng, FRAMES)
    for frame in frames:
        write(frame, left, 3, y, 4)
        write(frame, right, 32, y, 4)
    return Scene(frames, "OCR", "which letters are shown ?", f"{left} {right}", f"left {left} right {right}", "other")


def shown(rng: random.Random) -> Scene:
    _, at = _path(rng)
    frames, shape, name, _ = _moving(rng, at)
    return Scene(frames, "free-form", "what is shown ?", f"a {name} {shape}", f"the {shape} is {name}", "other")


def _during(frames: np.ndarray, low: int, high: int) -> np.ndarray:
    """A view of the frames from part `low` up to, without, part `high`."""
    each = len(frames) // PARTS
    return frames[low * each : high * each]


RENDERED: dict[str, Callable[[random.Random], Scene]] = {
    "direction": direction,
    "first": first,
    "arrow": arrow,
    "colour": colour,
    "turn": turn,
    "count": count,
    "when": when,
    "distance": distance,
    "spell": spell,
    "sign": sign,
    "happens": happens,
    "shown": shown,
}
