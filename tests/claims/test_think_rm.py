"""think_rm: on comparisons that are differences of rewards it is GRPO, and a circle teaches nothing."""

import pytest
import torch

from rlpost import step
from tests import toy


def credit(name, rewards, pairs, group):
    mask = torch.ones(len(rewards), 1, dtype=torch.bool)
    record = toy.scored(rewards[:, None], group, mask, -torch.ones(len(rewards), 1), pair_rewards=pairs)
    return step.score(record, toy.recipe(name)).scored.advantage[:, 0]


@pytest.mark.parametrize("seed", range(5))
def test_random_rewards_give_the_advantages_of_grpo(seed):
    rng = torch.Generator().manual_seed(seed)
    rewards, group = 3 * torch.randn(16, generator=rng), torch.arange(16) // 8
    pairs = torch.cat([block[:, None] - block[None, :] for block in rewards.view(2, 8)])
    apart = (credit("think_rm", rewards, pairs, group) - credit("grpo", rewards, pairs, group)).abs().max()
    # GRPO divides by std + 1e-4, this by sqrt(std^2 + 1e-6): at |a| < 2.5 and std > 1 less than 2.5e-4 apart
    assert apart < 2.5e-4, apart


@pytest.mark.parametrize("seed", range(3))
def test_a_circle_gives_no_credit_where_scores_invent_some(seed):
    """A beats B beats C beats A: pairwise credit is 0; numbers that a judge gives each alone can never say so."""
    rng = torch.Generator().manual_seed(seed)
    circle, group = torch.tensor([[0.0, 1, -1], [-1, 0, 1], [1, -1, 0]]), torch.zeros(3).long()
    alone = torch.rand(3, generator=rng)
    assert credit("think_rm", alone, circle, group).tolist() == [0, 0, 0]
    assert credit("grpo", alone, circle, group).abs().max() > 0.5
