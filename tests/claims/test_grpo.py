"""grpo: the group is the baseline."""

import pytest
import torch

from tests import toy


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_added_to_the_rewards_changes_nothing_and_the_bandit_is_learnt(seed):
    ends = []
    for offset in (0.0, 100.0):
        logits = torch.zeros(2, 5)
        right = torch.tensor([3, 1])
        toy.train(
            logits,
            lambda prompt, tokens, o=offset, right=right: (tokens == right[prompt][:, None]).float() + o,
            toy.recipe("grpo"),
            steps=30,
            lr=1.0,
            seed=seed,
        )
        ends.append(logits.detach().softmax(-1)[[0, 1], right])
    assert (ends[0] > 0.9).all()
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-4)
