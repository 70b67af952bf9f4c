"""PACS against logistic losses by hand, its gradient through the whole group, and rows without a label."""

import math

import pytest
import torch

from rlpost.objective.implicit import pacs

NAN, F64 = math.nan, torch.float64
# Group 3: labels 1 0 0 0 and a row without a reward; group 0: two right rows; group 1: a wrong row alone.
GROUP = torch.tensor([3, 3, 3, 3, 3, 0, 0, 1])
REWARD = torch.tensor([1.0, 0, 0.4, 0, NAN, 1, 1, 0], dtype=F64)
MASK = torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1], [1, 1], [1, 0], [1, 0], [1, 1]]).bool()
OLD = -torch.tensor([[1.0, 2], [1, 9], [1, 2], [1, 1], [1, 1], [1, 9], [2, 9], [1, 1]], dtype=F64)
GAP = torch.tensor([[0.3, 0.1], [-0.2, 9], [0.5, 0.1], [-0.4, 0.2], [3, 3], [0.7, 9], [-0.1, 9], [0.2, 0.1]], dtype=F64)
SUMS = [0.4, -0.2, 0.6, -0.2, None, 0.7, -0.1, 0.3]


def softplus(x):
    return math.log1p(math.exp(x))


def test_values():
    loss = pacs(OLD + GAP, OLD, MASK, REWARD, GROUP, beta=2.0)
    psi = [2 * (0.4 - 0.2 / 3), 2 * (-0.2 - 0.8 / 3), 2 * (0.6 - 0), 2 * (-0.2 - 0.8 / 3)]
    # four labelled rows, one right: 4 / (2 * 1) and 4 / (2 * 3)
    wanted = [2 * softplus(-psi[0])] + [2 / 3 * softplus(p) for p in psi[1:]]
    wanted += [0.0, softplus(-2 * 0.8), softplus(2 * 0.8), softplus(2 * 0.3)]
    assert loss.value.shape == (8, 1)
    assert loss.value[:, 0].tolist() == pytest.approx(wanted)
    assert loss.metrics["psi"].tolist() == pytest.approx([*psi, 0.0, 1.6, -1.6, 0.6])
    assert loss.metrics["told_apart"].tolist() == [1, 1, 0, 1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("balanced", [2, 2 / 3, 2 / 3, 2 / 3]),
        ("none", [1, 1, 1, 1]),
        ("only_positive", [1, 0, 0, 0]),
        ("only_negative", [0, 1, 1, 1]),
    ],
)
def test_on_policy_gradient(weights, expected):
    """d L / d s_i = w_i (1/2 - y_i) - mean over the others of w_j (1/2 - y_j), times beta at each token."""
    logp = OLD.clone().requires_grad_()
    value = pacs(logp, OLD, MASK, REWARD, GROUP, beta=1.5, weights=weights).value[:4].sum()
    assert value.item() == pytest.approx(sum(expected) * math.log(2))
    own = [w * (0.5 - y) for w, y in zip(expected, [1, 0, 0, 0], strict=True)]
    pull = [1.5 * (one - (sum(own) - one) / 3) for one in own]
    wanted = torch.zeros(8, 2, dtype=F64)
    wanted[:4] = torch.tensor(pull, dtype=F64)[:, None] * MASK[:4]
    torch.testing.assert_close(torch.autograd.grad(value, logp)[0], wanted)


def test_a_group_of_one_label_cancels_on_policy_only():
    for gap, zero in ((0.0, True), (0.3, False)):
        logp = OLD.clone()
        logp[5] += gap
        logp.requires_grad_()
        gradient = torch.autograd.grad(pacs(logp, OLD, MASK, REWARD, GROUP).value[5:7].sum(), logp)[0][5:7, 0]
        assert (gradient.abs().max() < 1e-12) == zero


def test_smooth_gradient_and_threshold():
    logp = (OLD + GAP).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pacs(x, OLD, MASK, REWARD, GROUP).value, logp)
    half = pacs(OLD, OLD, MASK, REWARD, GROUP, threshold=0.3).value[:4, 0]
    assert half.tolist() == pytest.approx([math.log(2)] * 4)  # two of each: all weights 1
    empty = MASK.clone()
    empty[3] = False
    # a row without tokens is no longer one of the wrong ones: 3 rows, 3/2 and 3/4
    found = pacs(OLD, OLD, empty, REWARD, GROUP).value[:4, 0]
    assert found.tolist() == pytest.approx([1.5 * math.log(2), 0.75 * math.log(2), 0.75 * math.log(2), 0.0])


def test_defaults_are_the_published_script():
    given = (OLD + GAP, OLD, MASK, REWARD, GROUP)
    explicit = pacs(*given, beta=1.0, weights="balanced", threshold=0.5)
    assert torch.equal(pacs(*given).value, explicit.value)
