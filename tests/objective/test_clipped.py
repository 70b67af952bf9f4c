"""The clipped family against numbers derived in sight, closed-form gradients and its named reductions."""

import math

import pytest
import torch
from hypothesis import given

from rlpost.objective.clipped import gspo, ppo_clip, sequence_clip
from tests.strategies import field, seeds

ROW = torch.tensor([[True, True, True]])


def logs(*p):
    return torch.tensor([p], dtype=torch.float64).log()


def grad(loss, logp):
    return torch.autograd.grad(loss.value.sum(), logp)[0]


def test_ppo_clip_values_and_gradients():
    # r = .7/.5 = 1.4, .3/.4 = .75, .45/.5 = .9
    old, logp = logs(0.5, 0.4, 0.5), logs(0.7, 0.3, 0.45).requires_grad_()
    up = ppo_clip(logp, old, torch.tensor([[2.0, -1.0, 3.0]], dtype=torch.float64))
    # min(2.8, 1.2 * 2) = 2.4 clipped; min(-.75, -.8) = -.8 clipped; .9 * 3 inside
    torch.testing.assert_close(up.value, -torch.tensor([[2.4, -0.8, 2.7]], dtype=torch.float64))
    torch.testing.assert_close(grad(up, logp), torch.tensor([[0.0, 0.0, -2.7]], dtype=torch.float64))
    assert up.metrics["clip_high"].tolist() == [[1, 0, 0]]
    assert up.metrics["clip_low"].tolist() == [[0, 1, 0]]
    torch.testing.assert_close(up.metrics["ratio"], torch.tensor([[1.4, 0.75, 0.9]], dtype=torch.float64))
    down = ppo_clip(logp, old, torch.tensor([[-2.0, 1.0, -3.0]], dtype=torch.float64))
    # the pessimistic side is the unclipped one: min(-2.8, -2.4), min(.75, .8)
    torch.testing.assert_close(down.value, -torch.tensor([[-2.8, 0.75, -2.7]], dtype=torch.float64))
    torch.testing.assert_close(grad(down, logp), torch.tensor([[2.8, -0.75, 2.7]], dtype=torch.float64))
    assert not down.metrics["clip_high"].any() and not down.metrics["clip_low"].any()


def test_clip_metrics_need_the_ratio_and_the_sign():
    # r = 1.25, 1.25, 1.15, .75, .75, .85
    old, logp = logs(*[0.4] * 6), logs(0.5, 0.5, 0.46, 0.3, 0.3, 0.34)
    metrics = ppo_clip(logp, old, torch.tensor([[0.5, -0.5, 0.5, 0.5, -0.5, -0.5]], dtype=torch.float64)).metrics
    assert metrics["clip_high"].tolist() == [[1, 0, 0, 0, 0, 0]]
    assert metrics["clip_low"].tolist() == [[0, 0, 0, 0, 1, 0]]


def test_ppo_clip_sides_are_separate():
    old, logp = logs(0.5, 0.4), logs(0.65, 0.2)  # r = 1.3, .5
    advantage = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    value = ppo_clip(logp, old, advantage, clip_low=0.4, clip_high=0.28).value
    torch.testing.assert_close(value, torch.tensor([[-1.28, 0.6]], dtype=torch.float64))


def test_ppo_clip_metrics_carry_no_gradient():
    logp = logs(0.7, 0.3).requires_grad_()
    assert not any(m.requires_grad for m in ppo_clip(logp, logs(0.5, 0.4), logs(0.1, 0.2)).metrics.values())


def test_gspo_is_the_geometric_mean_of_the_masked_ratios():
    # ratios 1.02, 1.0, (masked) 3.0: s = sqrt(1.02) = 1.00995
    old, logp = logs(0.5, 0.4, 0.1), logs(0.51, 0.4, 0.3).requires_grad_()
    mask, s = torch.tensor([[True, True, False]]), 1.02**0.5
    inside = gspo(logp, old, torch.full((1, 3), 2.0, dtype=torch.float64), mask, clip_low=0.1, clip_high=0.1)
    torch.testing.assert_close(inside.value[0, 0].item(), -2 * s)
    assert inside.metrics["ratio"].shape == (1, 1)
    # d s / d logp_t = s / 2 for the two tokens; the value is repeated over the row, and row_mean averages two of it
    g = torch.autograd.grad(inside.value[0, :2].mean(), logp)[0]
    torch.testing.assert_close(g, torch.tensor([[-s, -s, 0.0]], dtype=torch.float64))
    clipped = gspo(logp, old, torch.full((1, 3), 2.0, dtype=torch.float64), mask)
    torch.testing.assert_close(clipped.value[0, 0].item(), -2 * 1.0004)
    assert clipped.metrics["clip_high"][0, 0] == 1 and grad(clipped, logp).abs().sum() == 0
    low = gspo(old, logp.detach(), torch.full((1, 3), -2.0, dtype=torch.float64), mask)
    torch.testing.assert_close(low.value[0, 0].item(), 2 * (1 - 3e-4))
    assert low.metrics["clip_low"][0, 0] == 1


def test_sequence_clip_is_the_product_of_the_masked_ratios():
    # 1.1 * 1.05 = 1.155 inside; the masked 3.0 does not count
    old, logp = logs(0.5, 0.4, 0.1), logs(0.55, 0.42, 0.3).requires_grad_()
    mask, a = torch.tensor([[True, True, False]]), torch.full((1, 3), 3.0, dtype=torch.float64)
    loss = sequence_clip(logp, old, a, mask)
    torch.testing.assert_close(loss.value[0, 0].item(), -3 * 1.155)
    torch.testing.assert_close(
        torch.autograd.grad(loss.value[0, 0], logp)[0], torch.tensor([[-3.465, -3.465, 0]], dtype=torch.float64)
    )
    torch.testing.assert_close(sequence_clip(logp, old, a, mask, clip_high=0.1).value[0, 0].item(), -3 * 1.1)
    assert sequence_clip(old, logp.detach(), -a, mask, clip_low=0.1).value[0, 0].item() == pytest.approx(3 * 0.9)


@given(seed=seeds)
def test_reductions(seed):
    one, row = torch.ones(4, 1, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)
    logp, old, a = (field(k, 4, 1, seed) for k in ("logp", "old_logp", "advantage"))
    token = ppo_clip(logp, old, a).value
    torch.testing.assert_close(gspo(logp, old, a, one, clip_low=0.2, clip_high=0.2).value, token)
    torch.testing.assert_close(sequence_clip(logp, old, a, one).value, token)
    wide_old, wide_a = field("old_logp", 4, 3, seed), field("advantage", 4, 3, seed)
    shifted = wide_old + (logp - old)  # one log-ratio per row
    torch.testing.assert_close(
        gspo(shifted, wide_old, wide_a, row, clip_low=0.2, clip_high=0.2).value,
        ppo_clip(shifted, wide_old, wide_a).value,
    )


@given(seed=seeds)
def test_on_policy_gradient_is_minus_the_advantage(seed):
    old, a = field("old_logp", 3, 4, seed), field("advantage", 3, 4, seed)
    logp = old.clone().requires_grad_()
    torch.testing.assert_close(grad(ppo_clip(logp, old, a), logp), -a)


def test_ratios_stay_finite_in_float32():
    old, a = torch.tensor([[-200.0, -0.1]]), torch.tensor([[-1.0, -1.0]])
    logp = torch.tensor([[-0.1, -200.0]], requires_grad=True)
    loss = ppo_clip(logp, old, a)
    assert torch.isfinite(loss.value).all() and torch.isfinite(grad(loss, logp)).all()
    assert loss.value[0, 0].item() == pytest.approx(math.exp(20.0), rel=1e-6)
