"""Rendered signs: the letter stands in the square that the question names, and cannot be read when seen small."""

import numpy as np
import pytest

from rlpost.dataset.signs import signs
from rlpost.errors import ConfigError
from rlpost.media import draw


def test_the_region_holds_the_answer():
    for task in signs("test", test=12):
        x1, y1, x2, y2 = task.columns["region"]
        piece = task.media[0].frames[0][y1:y2, x1:x2]
        colour = np.array(draw.COLOURS[task.columns["colour"]])
        ink = (piece == 15).all(-1)
        assert ((piece == colour).all(-1) | ink).all() and task.columns["colour"] in task.prompt[0]["content"][1][
            "text"
        ]
        rows, columns = np.nonzero(ink)
        letter = ink[rows.min() : rows.max() + 1 : 2, columns.min() : columns.max() + 1 : 2]
        bits = np.array([[bit == "1" for bit in row] for row in draw.LETTERS[task.answer].split()])
        assert np.array_equal(letter, bits)


def test_splits_and_sizes():
    train, test = signs("train", train=4), signs("test", test=4)
    assert not any(np.array_equal(a.media[0].frames, b.media[0].frames) for a in train for b in test)
    assert np.array_equal(signs("train", train=2)[1].media[0].frames, train[1].media[0].frames)
    with pytest.raises(ConfigError, match="split 'dev'"):
        signs("dev")
    with pytest.raises(ConfigError, match="size=50"):
        signs("train", size=50)
