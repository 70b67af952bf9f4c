"""Draws small frames: a backdrop whose colour tells the position, shapes and letters."""

import random

import numpy as np

SIZE = 56
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
COLOURS = {"red": (230, 40, 40), "green": (40, 200, 60), "blue": (50, 80, 240), "yellow": (240, 220, 40)}
SHAPES = ("circle", "square", "triangle", "cross")
# Five by seven pixels per letter, one string per row.
LETTERS = {
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}


def backdrop(rng: random.Random, count: int) -> np.ndarray:
    """(count, SIZE, SIZE, 3) frames: grey, redder to the right and bluer to the bottom, with a little noise.

    The gradient is what lets a small vision tower tell where a patch lies; on a plain backdrop motion was not learnt.
    """
    draw = np.random.default_rng(rng.getrandbits(32))
    base = np.array([123.0, 117.0, 104.0]) + draw.integers(-8, 9, 3)
    ramp = np.stack([(COLUMNS - SIZE / 2) * 1.4, np.zeros_like(ROWS), (ROWS - SIZE / 2) * 1.4], -1)
    return np.clip(base + ramp + draw.normal(0, 5, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)


def put(frame: np.ndarray, shape: str, colour: str, x: float, y: float, radius: float) -> None:
    """Paint one shape into a frame, in place."""
    right, below = np.abs(COLUMNS - x), ROWS - y
    away = np.abs(below)
    if shape == "circle":
        inside = right**2 + below**2 <= radius**2
    elif shape == "square":
        inside = (right <= radius * 0.9) & (away <= radius * 0.9)
    elif shape == "triangle":
        inside = (away <= radius) & (right <= (below + radius) / 2)
    else:
        inside = ((right <= radius * 0.35) & (away <= radius)) | ((away <= radius * 0.35) & (right <= radius))
    frame[inside] = COLOURS[colour]


def write(frame: np.ndarray, letter: str, x: int, y: int, scale: int) -> None:
    """Paint one letter in black with its top left corner at (x, y), in place."""
    bits = np.array([[bit == "1" for bit in row] for row in LETTERS[letter].split()])
    mask = bits.repeat(scale, 0).repeat(scale, 1)
    height, width = mask.shape
    frame[y : y + height, x : x + width][mask] = (15, 15, 15)


def zone(x: float, y: float) -> str:
    """The quarter of the frame that a point lies in: tl, tr, bl or br."""
    return ("t" if y < SIZE / 2 else "b") + ("l" if x < SIZE / 2 else "r")
