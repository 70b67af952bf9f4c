"""Drawing again until enough groups stay."""

import pytest

from rlpost.refill import fill


@pytest.mark.parametrize(
    ("stays", "max_draws", "rounds"),
    [
        ([4], 9, [4]),  # all stay at once
        ([1, 2, 1], 9, [4, 3, 1]),  # what is missing is asked for
        ([0, 0, 0], 2, [4, 4]),  # a budget of two batches, none stays
        ([3, 0, 0, 0, 0], 2, [4, 1, 1, 1, 1]),  # a budget of eight prompts
        ([1, 2], 1, [4]),  # never again
        ([3, 2], 5, [4, 1]),  # one more than wanted ends it too
    ],
)
def test_rounds(stays, max_draws, rounds):
    asked = []

    def draw(n):
        asked.append(n)
        return stays[len(asked) - 1]

    assert fill(4, draw, sum, max_draws=max_draws) == stays[: len(rounds)]
    assert asked == rounds


def test_the_last_round_keeps_to_the_budget():
    asked = []
    fill(5, lambda n: asked.append(n) or n // 5, sum, max_draws=2)
    assert asked == [5, 4, 1]


def test_nothing_is_wanted():
    assert fill(0, lambda n: n, sum, max_draws=3) == []
