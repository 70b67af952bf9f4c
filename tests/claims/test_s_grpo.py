"""s_grpo: the earliest correct exit earns most, and among exits that are all correct the longest are pushed down."""

import pytest
import torch

from rlpost import step
from tests import toy


def credit(right: list[float], name: str = "s_grpo", *overrides: str) -> list[float]:
    """Advantages of one serial group whose last row is the whole completion."""
    mask, n = torch.ones(len(right), 3, dtype=torch.bool), len(right)
    record = toy.scored(
        torch.tensor(right)[:, None], torch.zeros(n, dtype=torch.long), mask, -torch.ones(n, 3), index=torch.arange(n)
    )
    return step.score(record, toy.recipe(name, *overrides)).scored.advantage[:, 0].tolist()


def test_the_papers_series():
    """Rewards 0, 1, 1/2, 0, 1/4 with mean 0.35."""
    assert credit([0.0, 1, 1, 0, 1]) == pytest.approx([-0.35, 0.65, 0.15, -0.35, -0.10])


def test_equal_rewards_say_nothing_where_the_decay_says_shorter():
    """All correct: 1, 1/2, 1/4, 1/8 with mean 15/32; the baseline that pays every correct exit 1 has no signal."""
    assert credit([1.0] * 4) == pytest.approx([17 / 32, 1 / 32, -7 / 32, -11 / 32])
    assert credit([1.0] * 4, "s_grpo", "shaping.exit_decay.decay=1.0") == [0.0] * 4
