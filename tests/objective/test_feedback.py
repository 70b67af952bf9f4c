"""The objective of two turns: distilled rows have no ratio, no clip, and a floor below which nothing is taught."""

import pytest
import torch

from rlpost.objective.clipped import ppo_clip
from rlpost.objective.feedback import rltf

ROLES = ("policy", "distilled", "revision", "distilled")
LOGP = torch.tensor([[-1.0, -2.0], [-0.5, -4.0], [-0.2, -6.0], [-5.5, -3.0]], dtype=torch.float64)
OLD = torch.tensor([[-1.1, -1.0], [-0.7, -5.1], [-0.6, -6.0], [-5.0, -4.0]], dtype=torch.float64)
ADVANTAGE = torch.tensor([[0.5], [0.75], [-1.0], [-0.25]], dtype=torch.float64).expand(4, 2)


def gradient(**knobs):
    logp = LOGP.clone().requires_grad_()
    loss = rltf(logp, OLD, ADVANTAGE, ROLES, **knobs)
    return loss, torch.autograd.grad(loss.value.sum(), logp)[0]


def test_distilled_tokens_have_their_advantage_as_gradient_and_none_below_the_floor():
    """-.1 * .75 and 0 (old -5.1), then .1 * .25 twice: -5.0 is not below the floor, where logp is now plays no part."""
    loss, found = gradient()
    assert found[[1, 3]].flatten().tolist() == pytest.approx([-0.075, 0.0, 0.025, 0.025], abs=1e-12)
    assert found[1, 1] == 0.0
    assert loss.value[1].tolist() == pytest.approx([0.0375, 0.0]) and loss.metrics["below_floor"].tolist() == [
        [0, 0], [0, 1], [0, 0], [0, 0]
    ]  # fmt: skip
    assert gradient(distil=0.4, floor=-6.0)[1][[1, 3]].flatten().tolist() == pytest.approx([-0.3, -0.3, 0.1, 0.1])


def test_the_turns_are_ppo_clips():
    clips = {"clip_low": 0.1, "clip_high": 0.3}
    loss, found = gradient(**clips)
    logp = LOGP.clone().requires_grad_()
    plain = ppo_clip(logp, OLD, ADVANTAGE, **clips).value
    expected = torch.autograd.grad(plain.sum(), logp)[0]
    torch.testing.assert_close(loss.value[[0, 2]], plain[[0, 2]])
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    assert gradient(distil=0.0)[1][[1, 3]].eq(0).all()
