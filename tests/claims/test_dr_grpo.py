"""dr_grpo: no bias by length, none by the spread of the rewards."""

import pytest

from tests import toy


def test_a_long_wrong_answer_is_pushed_as_hard_per_token_as_a_short_one():
    """20 tokens against 4: GRPO pushes a token of the long one a fifth as hard, so that wrong answers grow."""
    lengths, rewards = [4, 20, 10], [0.0, 0.0, 1.0]
    fair, biased = toy.push("dr_grpo", lengths, rewards), toy.push("grpo", lengths, rewards)
    assert (fair[1] / fair[0]).item() == pytest.approx(1.0)
    assert (biased[1] / biased[0]).item() == pytest.approx(4 / 20)


def test_questions_with_a_small_spread_are_not_blown_up():
    """Rewards a tenth as far apart: a tenth of the push, where GRPO's stays the same."""
    near, far = [0.0, 0.1, 0.1, 0.1], [0.0, 1.0, 1.0, 1.0]
    ratio = {name: (toy.push(name, [5] * 4, near) / toy.push(name, [5] * 4, far))[0] for name in ("dr_grpo", "grpo")}
    assert ratio["dr_grpo"].item() == pytest.approx(0.1, rel=1e-4)
    assert ratio["grpo"].item() == pytest.approx(1.0, abs=0.01)
