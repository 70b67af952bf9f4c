"""Reg-GRPO, OAPL and CoPG: values by hand, stated gradients, fixed points, and rows that stay out."""

import math

import pytest
import torch

from rlpost.advantage.group import leave_one_out
from rlpost.config import compose
from rlpost.objective.regression import copg, oapl, oapl_joint, reg_grpo
from rlpost.preference.direct import ipo

NAN, F64 = math.nan, torch.float64
# Groups of 3 (and a row without a reward), 2 and 1, uneven lengths.
GROUP = torch.tensor([5, 5, 5, 5, 2, 2, 9])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]]).bool()
REWARD = torch.tensor([1.0, 0.25, -0.5, NAN, 2.0, 0.5, 1.0], dtype=F64)
OTHER = -torch.tensor([[1.0, 2, 9], [1, 9, 9], [1, 2, 1], [1, 1, 1], [9, 1, 3], [2, 9, 9], [1, 1, 9]], dtype=F64)
GAP = torch.tensor(
    [[0.3, 0.1, 9], [-0.2, 9, 9], [0.5, 0.2, -0.1], [4, 4, 4], [9, 0.2, 0.1], [-0.5, 9, 9], [0.2, 0.1, 9]], dtype=F64
)
RHO = [0.4, -0.2, 0.6, None, 0.3, -0.5, 0.3]
CREDIT = torch.tensor([1.2, -0.2, -1.0, 0.0, 1.0, -1.0, 0.0], dtype=F64)
ADVANTAGE = torch.where(MASK, CREDIT[:, None], 0.0)


def test_reg_grpo_below_and_above_the_floor():
    def value(floor):
        return reg_grpo(OTHER + GAP, OTHER, MASK, ADVANTAGE, REWARD, GROUP, floor=floor).value[:, 0].tolist()

    c = [0.4 - 0.8 / 3, -0.2 - 0.8 / 3, 0.6 - 0.8 / 3]
    root = (sum(x * x for x in c) / 3) ** 0.5  # 0.34
    for floor, scale in ((0.5, 0.5), (0.1, root)):
        wanted = [(a - x / scale) ** 2 for a, x in zip((1.2, -0.2, -1.0), c, strict=True)]
        pair = max(floor, 0.4)
        wanted += [0.0, (1 - 0.4 / pair) ** 2, (-1 + 0.4 / pair) ** 2, 0.0]
        assert value(floor) == pytest.approx(wanted)


def test_reg_grpo_starts_as_a_policy_gradient_and_is_smooth():
    logp = OTHER.clone().requires_grad_()
    loss = reg_grpo(logp, OTHER, MASK, ADVANTAGE, REWARD, GROUP, floor=0.5).value
    gradient = torch.autograd.grad(loss[:4].sum() / 3, logp)[0]
    wanted = -2 * ADVANTAGE / (3 * 0.5)
    torch.testing.assert_close(gradient[:4], wanted[:4])
    logp = (OTHER + GAP).requires_grad_()
    for floor in (0.5, 0.1):
        assert torch.autograd.gradcheck(
            lambda x, f=floor: reg_grpo(x, OTHER, MASK, ADVANTAGE, REWARD, GROUP, floor=f).value, logp
        )


def test_reg_grpo_above_the_floor_teaches_two_rows_nothing():
    logp = (OTHER + GAP).requires_grad_()
    loss = reg_grpo(logp, OTHER, MASK, ADVANTAGE, REWARD, GROUP, floor=0.1).value[4:6].sum()
    assert torch.autograd.grad(loss, logp)[0].abs().max() < 1e-12


def test_reg_grpo_without_credit_is_silent():
    none = torch.where(GROUP[:, None] == 5, 0.0, ADVANTAGE)
    loss = reg_grpo(OTHER + GAP, OTHER, MASK, none, REWARD, GROUP)
    assert (loss.value[:4] == 0).all() and loss.value[4] > 0


def test_reg_grpo_settles_at_floor_times_the_advantage():
    """Three arms from uniform, all arms as the batch, A the z-scores of 1, 0, -1: c = 0.5 * (1.225, 0, -1.225)."""
    logits = torch.zeros(3, dtype=F64, requires_grad=True)
    a = torch.tensor([1.5**0.5, 0, -(1.5**0.5)], dtype=F64)[:, None]
    old, ones, zero = torch.full((3, 1), -math.log(3), dtype=F64), torch.ones(3, 1).bool(), torch.zeros(3)
    for _ in range(400):
        logp = torch.log_softmax(logits, -1)[:, None]
        loss = reg_grpo(logp, old, ones, a, zero, zero.long()).value.mean()
        with torch.no_grad():
            logits -= 0.1 * torch.autograd.grad(loss, logits)[0]
    centred = (logits - logits.mean()).tolist()
    assert centred == pytest.approx([0.5 * 1.5**0.5, 0, -0.5 * 1.5**0.5], abs=1e-3) and loss < 1e-5


def test_oapl():
    logp = (OTHER + GAP).requires_grad_()
    loss = oapl(logp, OTHER, MASK, ADVANTAGE, REWARD, beta2=0.5)
    wanted = [(0.5 * r - a) ** 2 if r is not None else 0.0 for r, a in zip(RHO, CREDIT.tolist(), strict=True)]
    assert loss.value[:, 0].tolist() == pytest.approx(wanted)
    gradient = torch.autograd.grad(loss.value.sum(), logp)[0]
    assert gradient[0].tolist() == pytest.approx([2 * 0.5 * (0.2 - 1.2)] * 2 + [0.0])
    assert (gradient[3] == 0).all() and gradient[6, 0].item() == pytest.approx(2 * 0.5 * 0.15)


def test_rows_of_one_rollout_regress_together():
    """Group 0 has a rollout of two rows and one of one, row 3 of group 1 no reward, and rows 4 and 5 no number."""
    trajectory = torch.tensor([0, 1, 0, 0, -1, -1, -1])
    logp = (OTHER + GAP).requires_grad_()
    loss = oapl_joint(logp, OTHER, MASK, ADVANTAGE, REWARD, GROUP, trajectory, beta2=0.5)
    a = CREDIT.tolist()
    both = (0.5 * (RHO[0] + RHO[2]) - (a[0] + a[2]) / 2) ** 2
    one = (0.5 * RHO[1] - a[1]) ** 2
    # three rows of two rollouts: 3 / (2 * 2) for the rows of the first, 3 / (2 * 1) for that of the second
    wanted = [both * 3 / 4, one * 3 / 2, both * 3 / 4, 0.0, *[(0.5 * RHO[i] - a[i]) ** 2 for i in (4, 5, 6)]]
    assert loss.value[:, 0].tolist() == pytest.approx(wanted)
    assert sum(wanted[:3]) / 3 == pytest.approx((both + one) / 2), "group_mean weighs rollouts alike"
    (gradient,) = torch.autograd.grad(loss.value[:3].sum() / 3, logp)
    pull = (0.5 * (RHO[0] + RHO[2]) - (a[0] + a[2]) / 2) * 2 * 0.5 / 2
    assert gradient[0, 0].item() == pytest.approx(pull) == pytest.approx(gradient[2, 0].item())
    alone = torch.full((7,), -1)
    plain = oapl(logp, OTHER, MASK, ADVANTAGE, REWARD, beta2=0.5).value
    for numbers in (alone, torch.arange(7)):
        torch.testing.assert_close(
            oapl_joint(logp, OTHER, MASK, ADVANTAGE, REWARD, GROUP, numbers, beta2=0.5).value, plain
        )
    full = (logp, OTHER, MASK, ADVANTAGE, REWARD, GROUP, trajectory)
    assert torch.equal(oapl_joint(*full).value, oapl_joint(*full, beta2=1e-3).value)


def test_copg_is_the_mean_over_the_pairs():
    beta = 0.4
    logp = (OTHER + GAP).requires_grad_()
    loss = copg(logp, OTHER, MASK, REWARD, GROUP, beta=beta)
    d = [r - beta * rho if rho is not None else None for r, rho in zip(REWARD.tolist(), RHO, strict=True)]

    def pairs(i, others):
        return sum((d[i] - d[j]) ** 2 for j in others) / len(others) / (2 * beta)

    wanted = [pairs(0, [1, 2]), pairs(1, [0, 2]), pairs(2, [0, 1]), 0.0, pairs(4, [5]), pairs(5, [4]), 0.0]
    assert loss.value[:, 0].tolist() == pytest.approx(wanted)
    # -2 (d_i - mean of the others) / G for the group's mean
    gradient = torch.autograd.grad(loss.value[:4].sum() / 3, logp)[0]
    pull = [-2 / 3 * (d[i] - (sum(d[:3]) - d[i]) / 2) for i in range(3)]
    torch.testing.assert_close(gradient[:3], torch.tensor(pull, dtype=F64)[:, None] * MASK[:3])
    assert (gradient[3:] == 0).all()
    assert torch.autograd.gradcheck(lambda x: copg(x, OTHER, MASK, REWARD, GROUP).value, logp)


def test_copg_at_the_reference_is_twice_the_leave_one_out_gradient():
    logp = OTHER.clone().requires_grad_()
    gradient = torch.autograd.grad(copg(logp, OTHER, MASK, REWARD, GROUP).value.sum(), logp)[0]
    size = torch.tensor([3, 3, 3, 1, 2, 2, 1])
    a = leave_one_out(REWARD[:, None], torch.ones(1, dtype=F64), GROUP)
    torch.testing.assert_close(gradient / size[:, None], -2 * (a / size)[:, None] * MASK)


def test_copg_of_quarters_is_ipo():
    logp, ref = torch.tensor([[-0.4], [-1.3]], dtype=F64), torch.tensor([[-0.9], [-1.1]], dtype=F64)
    one, reward = torch.ones(2, 1).bool(), torch.tensor([0.25, -0.25], dtype=F64)
    loss = copg(logp, ref, one, reward, torch.zeros(2, dtype=torch.long), beta=0.2).value
    pair = ipo(logp[:1], logp[1:], one[:1], one[1:], ref[:1], ref[1:], beta=0.2).value
    assert loss[:, 0].tolist() == pytest.approx([0.1 * pair.item()] * 2)


def test_defaults():
    given = (OTHER + GAP, OTHER, MASK)
    full = (*given, ADVANTAGE, REWARD)
    assert torch.equal(reg_grpo(*full, GROUP).value, reg_grpo(*full, GROUP, floor=0.5).value)
    assert torch.equal(oapl(*full).value, oapl(*full, beta2=1e-3).value)
    assert torch.equal(copg(*given, REWARD, GROUP).value, copg(*given, REWARD, GROUP, beta=0.1).value)


def test_metrics_say_how_far_the_rows_are():
    given = (OTHER + GAP, OTHER, MASK)
    c = [0.4 - 0.8 / 3, -0.2 - 0.8 / 3, 0.6 - 0.8 / 3]
    found = reg_grpo(*given, ADVANTAGE, REWARD, GROUP).metrics
    assert found["log_ratio"].tolist() == pytest.approx([0.4, -0.2, 0.6, 0.0, 0.3, -0.5, 0.3])
    assert found["spread"][0].item() == pytest.approx((sum(x * x for x in c) / 3) ** 0.5)
    assert oapl(*given, ADVANTAGE, REWARD).metrics["log_ratio"][:3].tolist() == pytest.approx([0.4, -0.2, 0.6])
    gap = copg(*given, REWARD, GROUP, beta=0.4).metrics["gap"]
    d = [1 - 0.16, 0.25 + 0.08, -0.5 - 0.24]
    assert gap[:4].tolist() == pytest.approx([abs(x - sum(d) / 3) for x in d] + [0.0])


def test_the_divergence_of_reg_grpo_is_a_mean_over_tokens():
    """The recipe's squares are one number per row, its KL is of the completions' tokens, however long the rows are."""
    tree = compose("grpo", ["recipe=deepvideo_r1"]).tree
    assert tree["aggregate"]["_target_"].endswith("row_mean")
    assert tree["regularizer"]["kl_k3"]["aggregate"]["_target_"].endswith("token_mean")
    assert tree["regularizer"]["kl_k3"]["coef"] == 0.04
