"""The elliptical bonus: duplicates beside an odd one, the definition by an inverse, and groups without spread."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.elliptical import elliptical, leave_one_out_bonus, projected
from tests.reward.rows import rollout

F64 = torch.float64


class States:
    """An encoder whose state of a completion is the row that its text numbers."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def hidden(self, prompts, completions):
        self.asked += list(zip(prompts, completions, strict=True))
        return self.table[[int(c) for c in completions]]


def test_five_duplicates_and_one_odd():
    """Centred, duplicates are u/6 and the odd one -5u/6 with |u|^2 = 200: sum h h' = 200 (5/36 + 25/36) along u."""
    table = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    given = [rollout(text) for text in ("0", "0", "1", "0", "0", "0")]
    found = elliptical(given, {"encoder": States(table)}, 0)
    total = 200 * 30 / 36 + 0.01
    leverage = [200 / 36 / total, 200 * 25 / 36 / total]
    assert leverage == pytest.approx([1 / 30, 25 / 30], abs=1e-4)
    dup, odd = (one / (1 - one) for one in leverage)
    assert found == pytest.approx([dup, dup, odd, dup, dup, dup], rel=1e-6)
    assert dup == pytest.approx(0.0345, abs=1e-4) and odd == pytest.approx(5.0, abs=0.01)


def test_the_leverage_itself():
    table = torch.tensor([[10.0, 0.0], [0.0, 10.0]])
    given = [rollout(text) for text in ("0", "0", "1", "0", "0", "0")]
    found = elliptical(given, {"encoder": States(table)}, 0, leave_one_out=False)
    assert found == pytest.approx([1 / 30, 1 / 30, 25 / 30, 1 / 30, 1 / 30, 1 / 30], abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(5, 3), (4, 9)])
def test_it_is_the_inverse_without_the_row_itself(n, d):
    states = torch.randn(n, d, generator=torch.Generator().manual_seed(n), dtype=F64)
    h = states - states.mean(0)
    found = leave_one_out_bonus(states, 0.3)
    for i in range(n):
        others = torch.cat([h[:i], h[i + 1 :]])
        sigma = 0.3 * torch.eye(d, dtype=F64) + others.T @ others
        assert found[i].item() == pytest.approx((h[i] @ torch.linalg.solve(sigma, h[i])).item(), rel=1e-9)


def test_groups_are_apart_and_a_group_without_spread_has_none():
    table = torch.tensor([[3.0, 0], [0, 1], [0, 2]])
    texts = [("0", "a"), ("1", "b"), ("1", "a"), ("2", "c"), ("1", "b")]
    given = [rollout(text, group=group) for text, group in texts]
    encoder = States(table)
    found = elliptical(given, {"encoder": encoder}, 0)
    # group a: two rows at +-v, |2v|^2 = 10: leverage 2.5 / (.01 + 5), whatever the other groups hold
    pair = 2.5 / 5.01
    assert found == pytest.approx([pair / (1 - pair), 0, pair / (1 - pair), 0, 0], abs=1e-9)
    assert encoder.asked[0] == (given[0].task.prompt, "0")


def test_the_projection_keeps_distances_on_average_and_is_drawn_anew():
    states = torch.randn(1, 400, generator=torch.Generator().manual_seed(0), dtype=F64)
    lengths = torch.stack([projected(states, 64, seed=s).norm() ** 2 for s in range(200)]) / states.norm() ** 2
    # variance of one |Px|^2/|x|^2 is below 3/64, of the mean of 200 below 0.00024: three deviations are 0.046
    assert lengths.mean().item() == pytest.approx(1.0, abs=0.05) and lengths.std() > 0.05
    assert projected(states, 64, seed=3).shape == (1, 64)
    assert projected(states, None, seed=3) is states and projected(states, 400, seed=3) is states


def test_the_step_draws_the_projection_and_a_step_repeats_itself():
    given = [rollout(f"{i}") for i in range(6)]
    at = [elliptical(given, {"encoder": StandIn()}, step, width=8) for step in (0, 0, 1)]
    assert at[0] == at[1] != at[2]
    assert all(bonus > 0 and math.isfinite(bonus) for bonus in at[0])


@pytest.mark.parametrize("knobs", [{"ridge": 0.0}, {"width": 0}])
def test_settings_that_cannot_work(knobs):
    with pytest.raises(ConfigError, match="reward elliptical has"):
        elliptical([rollout("0")], {"encoder": StandIn()}, 0, **knobs)
