"""repexp: with ten right arms out of twenty the bonus keeps many of them, where GRPO settles on few."""

import pytest
import torch

from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.elliptical import elliptical
from rlpost.types import Prompt, Rollout, Task
from tests import toy

ARMS, RIGHT = 20, 10


class OneHot(StandIn):
    """An encoder that tells arms apart: the state of arm k is the k-th unit vector."""

    def hidden(self, prompts, completions):
        return torch.eye(ARMS)[[int(c) for c in completions]]


def trained(name, seed, steps=150, lr=2.0):
    """Accuracy, and the effective number of right arms (the exponential of their entropy), after training."""
    logits, encoder, task = torch.zeros(1, ARMS), {"encoder": OneHot()}, Task("t", ())
    overrides = ["shaping.solved_gate.bonus=r1", "shaping.solved_gate.reward=r0"] if name == "repexp" else []
    method = toy.recipe(name, *overrides)

    def reward(prompt, tokens):
        right = (tokens < RIGHT).float()
        rows = [Rollout(task, "g", Prompt([]), [a], [True], [0.0], str(a), "eos") for a in tokens[:, 0].tolist()]
        bonus = 0.01 * torch.tensor(elliptical(rows, encoder, 0))
        return torch.stack([right[:, 0], bonus], dim=1) if name == "repexp" else right

    toy.train(logits, reward, method, steps=steps, lr=lr, seed=seed, n=16)
    p = logits.detach().softmax(-1)[0]
    own = p[:RIGHT] / p[:RIGHT].sum()
    return p[:RIGHT].sum().item(), float(torch.special.entr(own).sum().exp())


@pytest.mark.parametrize("seed", range(3))
def test_more_right_arms_survive_at_the_same_accuracy(seed):
    (accuracy, arms), (baseline, few) = trained("repexp", seed), trained("grpo", seed)
    assert arms > few + 2, (arms, few)
    assert accuracy > baseline - 0.04, (accuracy, baseline)
