"""raif: reasoning that lost against none gets no policy gradient, but its KL does; demonstrations hold the form."""

import pytest
import torch

from rlpost import step
from tests import toy

NAMES = ("constraints", "thought_form", "constraint_gain")
# Constraints met: all, a third, none (wrong form), a third; gain over the answer without thoughts.
REWARDS = torch.tensor([[2.0, 1.0, 1.0], [1 / 3, 1.0, -1.0], [-2.0, -1.0, torch.nan], [1 / 3, 1.0, 0.0]])


def gradient(name, seed, *, drop=()):
    """Of the loss by each token's log-probability, on a group of four rows whose reference is elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    method = toy.recipe(name)
    method = type(method)(**{**vars(method), **dict.fromkeys(drop, ())})
    mask = torch.arange(5) < torch.tensor([[5], [3], [4], [2]])
    old, ref = -torch.rand(2, 4, 5, generator=rng) - 0.1
    record = toy.scored(
        REWARDS, torch.zeros(4, dtype=torch.long), mask, old, weights=[1.0, 1.0, 0.0], reward_names=NAMES, ref_logp=ref
    )
    credit, logp = step.score(record, method).scored, old.clone().requires_grad_()
    value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
    return torch.autograd.grad(value, logp)[0], mask


@pytest.mark.parametrize("seed", range(3))
def test_inferior_reasoning_has_no_policy_gradient_but_a_kl_gradient(seed):
    policy, mask = gradient("raif", seed, drop=("regularizer",))
    whole, _ = gradient("raif", seed)
    grpo, _ = gradient("grpo", seed)
    assert policy[1].eq(0).all() and grpo[1][mask[1]].ne(0).all()
    assert whole[1][mask[1]].ne(0).all() and (whole - policy)[mask].ne(0).all()
    # the others: their z-scores are GRPO's, as a mean over three rows instead of four
    for row in (0, 2, 3):
        torch.testing.assert_close(policy[row], grpo[row] * 4 / 3)
