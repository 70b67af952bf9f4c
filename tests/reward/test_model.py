"""The score of a reward model as a reward."""

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
