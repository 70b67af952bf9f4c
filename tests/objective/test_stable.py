"""StableReinforce by hand: inside the bounds PPO, outside a number and no gradient."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.objective.clipped import ppo_clip
from rlpost.objective.stable import stable_reinforce


def run(gap, advantage, **knobs):
    old = torch.full((1, len(gap)), -60.0, dtype=torch.float64)
    logp = (old + torch.tensor([gap], dtype=torch.float64)).requires_grad_()
    loss = stable_reinforce(logp, old, torch.tensor([advantage], dtype=torch.float64), **knobs)
    return loss, torch.autograd.grad(loss.value.sum(), logp)[0]


def test_values_and_gradients():
    # ratios 50 nats out (held at 1000), .001 from below (held at .001), 1.4, .5 and 1.1
    gap = [50.0, -50.0, math.log(1.4), math.log(0.5), math.log(1.1)]
    loss, gradient = run(gap, [-2.0, -2.0, -2.0, 3.0, 3.0])
    # min(-2000, -2.4); min(-.002, -1.6); min(-2.8, -2.4); min(1.5, 2.4); inside
    wanted = [[2000, 1.6, 2.8, -1.5, -3.3]]
    torch.testing.assert_close(loss.value, torch.tensor(wanted, dtype=torch.float64))
    torch.testing.assert_close(gradient, torch.tensor([[0, 0, 2.8, -1.5, -3.3]], dtype=torch.float64))
    assert loss.metrics["pre_clipped"].tolist() == [[1, 1, 0, 0, 0]]
    assert loss.metrics["ratio"][0, :2].tolist() == pytest.approx([1000, 0.001])
    other, _ = run(gap, [-2.0] * 5, floor=0.5, ceiling=2.0, clip_low=0.6, clip_high=0.3)
    assert other.value[0, :2].tolist() == pytest.approx([4, 1]) and other.metrics["pre_clipped"].tolist()[0][2] == 0


def test_inside_the_bounds_it_is_ppo():
    rng = torch.Generator().manual_seed(0)
    logp, old, a = (torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(stable_reinforce(logp, old, a).value, ppo_clip(logp, old, a).value)
    ours, plain = (f(logp, old, a, clip_low=0.1, clip_high=0.5).value for f in (stable_reinforce, ppo_clip))
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("knobs", [{"floor": 0.0}, {"floor": 1.0}, {"ceiling": 1.0}])
def test_bounds_enclose_one(knobs):
    with pytest.raises(ConfigError, match="must enclose 1"):
        run([0.0], [1.0], **knobs)
