"""dapo: every token weighs the same, and a higher upper clip lets improbable tokens grow.

The paper's third statement, higher entropy, does not show on bandits; see about.dapo.claim.
"""

import pytest
import torch

from rlpost import step
from tests import toy


def test_every_token_weighs_the_same():
    """Two wrong answers of 4 and 20 tokens; under GRPO the long one's tokens weigh a fifth."""
    lengths, rewards = [4, 20, 10], [0.0, 0.0, 1.0]
    pushed, baseline = toy.push("dapo", lengths, rewards), toy.push("grpo", lengths, rewards)
    assert pushed[0].item() == pytest.approx(pushed[1].item()) and baseline[1] / baseline[0] < 0.21


@pytest.mark.parametrize("p", [0.01, 0.3])
def test_a_rewarded_token_may_grow_by_28_percent_instead_of_20(p):
    """Many updates on one batch: the ratio stops where its gradient is clipped."""
    old, reached = torch.full((4, 1), p).log(), {}
    for name in ("grpo", "dapo"):
        method = toy.recipe(name)
        rewards, group = torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.zeros(4, dtype=torch.long)
        credit = step.score(toy.scored(rewards, group, torch.ones(4, 1, dtype=torch.bool), old), method).scored
        logp = old.clone().requires_grad_()
        for _ in range(200):
            value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
            with torch.no_grad():
                logp -= 0.01 * torch.autograd.grad(value, logp)[0]
        reached[name] = (logp - old).exp()[0].item()
    assert reached["grpo"] == pytest.approx(1.2, abs=0.01) and reached["dapo"] == pytest.approx(1.28, abs=0.01)
