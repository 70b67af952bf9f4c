"""mgpo_grounding: with the reward of the last turn alone, two turns learn to look and to read, where one must guess."""

import pytest

from tests.claims import looking


@pytest.mark.parametrize("seed", range(3))
def test_two_turns_pass_where_one_stays_at_chance(seed):
    """Chance is 1/3; 216 draws around it have a standard deviation of 0.03."""
    knobs = {"seed": seed, "steps": 12, "lr": 60.0}
    assert looking.success("mgpo_grounding", "rollout.max_turns=2", **knobs) > 0.9
    assert looking.success("mgpo_grounding", "rollout.max_turns=1", **knobs) < 1 / 3 + 0.12
