"""pacs: predicting right from wrong is a policy gradient whose labels are centred, and it learns the bandit."""

import pytest
import torch

from tests import toy


def test_the_first_gradient_is_the_centred_label_times_the_class_weight():
    """Labels 1 0 0 0: weights 2, 2/3; (1/2 - y) w = -1 and 1/3, less the mean of the others: -4/3 and 4/9, over 4."""
    pushed = toy.push("pacs", [1] * 4, [1.0, 0.0, 0.0, 0.0])
    assert pushed.tolist() == pytest.approx([1 / 3, 1 / 9, 1 / 9, 1 / 9])


@pytest.mark.parametrize("seed", range(4))
def test_the_bandit_is_learnt_with_few_samples_and_many_updates(seed):
    right, reached = torch.tensor([3, 1, 4]), {}
    for name in ("pacs", "grpo"):
        logits = torch.zeros(3, 8)
        toy.train(
            logits,
            lambda q, t: (t == right[q][:, None]).float(),
            toy.recipe(name),
            steps=30,
            lr=1.0,
            seed=seed,
            updates=4,
        )
        reached[name] = logits.detach().softmax(-1)[torch.arange(3), right].tolist()
    assert min(reached["pacs"]) > 0.9, reached
