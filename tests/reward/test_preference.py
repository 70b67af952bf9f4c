"""A reward model's score as a preference over reference answers."""

import math

import pytest

from rlpost.errors import RewardError
from rlpost.reward.preference import preference
from rlpost.types import Prompt, Rollout, Task


class Head:
    """Scores the number that a text states, plus what the prompt says."""

    def scalar(self, prompts, completions):
        return [float(prompt[0]["content"]) + float(text) for prompt, text in zip(prompts, completions, strict=True)]


def said(text, demonstration=None, *, offset="0", **columns):
    task = Task("t1", ({"role": "user", "content": offset},), demonstration=demonstration, columns=columns)
    return Rollout(task, "g", Prompt([1]), [1], [True], [-1.0], text, "eos")


def score(*rows, **knobs):
    return preference(rows, {"reward": Head()}, **knobs)


def test_the_mean_over_the_references():
    # sigmoid(3 - 1) = .880797, sigmoid(3 - 4) = .268941
    assert score(said("3", refs=["1", "4"]), references="refs") == pytest.approx([(0.880797 + 0.268941) / 2], abs=1e-6)


def test_each_row_has_the_references_of_its_own_prompt():
    found = score(said("3", "1"), said("0.5", "2"), said("3", ["3", "3"]), scale=2.0)
    assert found == pytest.approx([1 / (1 + math.exp(-4)), 1 / (1 + math.exp(3)), 0.5], rel=1e-9)


def test_a_prompts_offset_changes_nothing():
    plain = score(said("3", "1"), said("-1", "1"))
    assert score(said("3", "1", offset="50"), said("-1", "1", offset="-7")) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_slope_is_greatest_at_the_reference_and_vanishes_far_above(scale):
    def slope(at):
        low, high = score(said(str(at - 1e-4), "0"), said(str(at + 1e-4), "0"), scale=scale)
        return (high - low) / 2e-4

    assert slope(0) == pytest.approx(scale / 4, rel=1e-6)
    assert slope(0) > slope(0.5) > slope(-1) and slope(20) < 1e-6


def test_extreme_scores_do_not_overflow():
    assert score(said("1e6", "0"), said("-1e6", "0")) == [1.0, 0.0]


@pytest.mark.parametrize(("row", "knobs"), [(said("3"), {}), (said("3", "1"), {"references": "refs"})])
def test_a_task_without_references_is_a_sentence(row, knobs):
    with pytest.raises(RewardError, match=r"task t1 has none in its (demonstration|column 'refs')"):
        score(row, **knobs)
