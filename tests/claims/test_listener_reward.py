"""listener_reward: the sheet's totals, and a group whose answers are all right still learns which thoughts convince."""

import pytest
import torch

from rlpost import assemble, step
from rlpost.config import compose
from tests import toy
from tests.reward.test_listener import Stub, row, text


def stack():
    """The recipe's rewards with a stub as listener: sure of A (right) after good thoughts, of B after bad ones."""
    found = assemble.reward_stack(compose("grpo", ["recipe=listener_reward"]).tree)
    found.models._built["listener"] = Stub(lambda begun: float("good" in begun))  # type: ignore[attr-defined]
    return found


def totals(*texts):
    rows, rewards = [row(one) for one in texts], stack()
    rewards.score(rows)
    return step.total_reward(rewards.table(rows), rewards.weights)


def test_the_sheets_totals():
    """1 for the form, a half for the answer, a half for the listener; without the form nothing."""
    assert totals(text("good"), text("bad"), text("good", "B"), text("bad", "B"), "A").tolist() == [2, 1.5, 1.5, 1, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_whose_answers_are_all_right_keep_a_signal(seed):
    """Accuracy and form give such a group no advantage; with the listener good thoughts gain and bad ones lose."""
    good = torch.rand(6, generator=torch.Generator().manual_seed(seed)) < 0.5
    assert good.any() and not good.all()
    method, rewards = toy.recipe("listener_reward"), stack()
    rows = [row(text("good" if one else "bad")) for one in good.tolist()]
    rewards.score(rows)
    table = rewards.table(rows)

    def advantage(weights):
        mask = torch.ones(6, 2, dtype=torch.bool)
        record = toy.scored(table, torch.zeros(6, dtype=torch.long), mask, -torch.ones(6, 2), weights)
        return step.score(record, method).scored.advantage[:, 0]

    found = advantage(rewards.weights.tolist())
    assert rewards.weights.tolist() == [1.0, 0.5, 0.5]
    assert (found[good] > 0).all() and (found[~good] < 0).all()
    assert (advantage([1.0, 0.5, 0.0]) == 0).all()
