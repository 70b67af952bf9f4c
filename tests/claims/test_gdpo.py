"""gdpo: groups with totals (0,1) and (0,2) stay apart."""

import pytest
import torch

from rlpost import step
from rlpost.advantage.group import group_zscore
from tests import toy

# second rollout of group 0 earns one of two rewards, that of group 1 both
REWARDS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
GROUP = torch.tensor([0, 0, 1, 1])


def credit(name, rewards):
    mask = torch.ones(len(rewards), 1, dtype=torch.bool)
    return step.score(
        toy.scored(rewards, GROUP, mask, -torch.ones(len(rewards), 1)), toy.recipe(name)
    ).scored.advantage[:, 0]


def test_the_ratio_of_one_to_two_survives():
    same, apart = credit("grpo", REWARDS), credit("gdpo", REWARDS)
    torch.testing.assert_close(same, torch.tensor([-0.7071, 0.7071, -0.7071, 0.7071]), atol=2e-4, rtol=0)
    assert (apart[3] / apart[1]).item() == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_with_one_reward_it_is_grpo_up_to_the_last_z_score(seed):
    rewards = torch.rand(4, 1, generator=torch.Generator().manual_seed(seed))
    z = group_zscore(rewards, torch.ones(1), GROUP)
    torch.testing.assert_close(credit("gdpo", rewards), (z - z.mean()) / (z.std() + 1e-4))


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_reward_is_not_drowned_by_a_wide_one(seed):
    """One reward spreads over 0 to 100, the other is 0 or 1: GRPO drowns the second, GDPO does not."""
    rng = torch.Generator().manual_seed(seed)
    rewards = torch.stack([100 * torch.rand(64, generator=rng), (torch.rand(64, generator=rng) < 0.5).float()], dim=1)
    mask, group = torch.ones(64, 1, dtype=torch.bool), torch.arange(64) // 16
    share = {}
    for name in ("grpo", "gdpo"):
        a = step.score(toy.scored(rewards, group, mask, -torch.ones(64, 1)), toy.recipe(name)).scored.advantage[:, 0]
        share[name] = torch.corrcoef(torch.stack([a, rewards[:, 1]]))[0, 1].item()
    assert share["gdpo"] > share["grpo"] + 0.3, share
