"""The score of a reward model as a reward."""

import pytest

from rlpost.errors import ConfigError
from rlpost.reward.model import model_score
from tests.build.rows import said


class Head:
    def scalar(self, prompts, completions):
        return [
            len(prompt[-1]["content"]) + 10.0 * len(text) for prompt, text in zip(prompts, completions, strict=True)
        ]


def test_prompt_and_completion_are_scored_in_order():
    rows = [said("qq", "a"), said("q", "bcd")]
    assert model_score(rows, {"mine": Head()}, role="mine") == [12.0, 31.0]


def test_scores_are_standardised_by_given_numbers():
    """12 and 31 with mean 7, deviation 2 and bias -1: 5/2 - 1 and 24/2 - 1."""
    rows = [said("qq", "a"), said("q", "bcd")]
    assert model_score(rows, {"reward": Head()}, mean=7.0, std=2.0, bias=-1.0) == [1.5, 11.0]
    with pytest.raises(ConfigError, match="must be above 0"):
        model_score(rows, {"reward": Head()}, std=0.0)
