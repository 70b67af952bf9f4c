"""DisCO against sums by hand: uneven groups, rows that are neither right nor wrong, and its two scores."""

import math

import pytest
import torch

from rlpost.objective.contrast import disco, disco_ratio

NAN, F64 = math.nan, torch.float64
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 0]]).bool()
# Group 7: two right rows, two wrong. Group 2: all right. Group 5: one right, one wrong without tokens, one unrated.
GROUP = torch.tensor([7, 7, 7, 7, 2, 5, 5, 5])
REWARD = torch.tensor([1.0, 0.9, 0.2, 0.0, 1.0, 1.0, 0.0, NAN], dtype=F64)
LOGP = torch.tensor(
    [[-1, -3, 9], [-0.5, 9, 9], [9, -1, 9], [-2, -4, -3], [-1, -1, 9], [-2, 9, 9], [9, 9, 9], [-7, 9, 9]], dtype=F64
)
SCORE = [-2.0, -0.5, -1.0, -3.0]  # row means of group 7


def test_hard_negatives_weigh_by_the_exponential_of_their_score():
    logp = LOGP.clone().requires_grad_()
    loss = disco(logp, MASK, REWARD, GROUP, tau=2.0)
    j = -1.25 - 2 * math.log((math.exp(-0.5) + math.exp(-1.5)) / 2)
    torch.testing.assert_close(loss.value[:, 0], torch.tensor([-j] * 4 + [0.0] * 4, dtype=F64))
    assert loss.metrics["mixed"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert loss.metrics["contrast"][:4].tolist() == pytest.approx([j] * 4)
    hard = math.exp(-0.5) / (math.exp(-0.5) + math.exp(-1.5))
    # d(-J)/d logp: a half to each right row over its tokens, the softmax to the wrong ones; nothing anywhere else
    expected = torch.zeros(8, 3, dtype=F64)
    expected[0, :2], expected[1, 0], expected[2, 1], expected[3] = -0.25, -0.5, hard, (1 - hard) / 3
    # The value of the group stands in each of its four rows.
    torch.testing.assert_close(torch.autograd.grad(loss.value.sum(), logp)[0], 4 * expected)


@pytest.mark.parametrize("tau", [None, 1e6])
def test_a_large_tau_is_the_plain_mean(tau):
    value = disco(LOGP, MASK, REWARD, GROUP, tau=tau).value
    assert value[0].item() == pytest.approx(-(-1.25 + 2.0), abs=1e-5)


def test_the_threshold_moves_the_border():
    # above 0.1 three rows are right: -(mean of -2, -.5, -1) - (-3)
    value = disco(LOGP, MASK, REWARD, GROUP, tau=None, threshold=0.1).value
    assert value[0].item() == pytest.approx(3.5 / 3 - 3.0)


def test_the_ratio_score():
    old = LOGP - torch.tensor([2.0, 1.2, 0.5, 1.5, 1, 1, 1, 1], dtype=F64)[:, None].log()
    free = LOGP.clone().requires_grad_()
    loss = disco_ratio(free, old, MASK, REWARD, GROUP, tau=1.0)
    j = 1.6 - math.log((math.exp(0.5) + math.exp(1.5)) / 2)
    assert loss.value[:4, 0].tolist() == pytest.approx([-j] * 4)
    # d ratio / d logp = ratio: the first token of row 0 has a half of a half of 2
    assert torch.autograd.grad(loss.value[0, 0], free)[0][0, 0].item() == pytest.approx(-0.5)
    plain = disco_ratio(free, old, MASK, REWARD, GROUP, tau=None)
    assert plain.value[0].item() == pytest.approx(-0.6)
    same = [
        torch.autograd.grad(f.value.sum(), free)[0]
        for f in (
            disco_ratio(free, LOGP, MASK, REWARD, GROUP, tau=None),
            disco(free, MASK, REWARD, GROUP, tau=None),
        )
    ]
    torch.testing.assert_close(same[0], same[1])


def test_smooth_gradients():
    mask, group = MASK[:4], GROUP[:4]
    logp = LOGP[:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: disco(x, mask, REWARD[:4], group, tau=0.7).value, logp)
    assert torch.autograd.gradcheck(lambda x: disco_ratio(x, LOGP[:4] - 0.3, mask, REWARD[:4], group).value, logp)


def test_defaults_are_the_published_scripts():
    rows = (MASK, REWARD, GROUP)
    assert torch.equal(disco(LOGP, *rows).value, disco(LOGP, *rows, tau=10.0, threshold=0.5).value)
    old = LOGP - 0.3 * LOGP.abs()
    ratio = disco_ratio(LOGP, old, *rows).value
    assert torch.equal(ratio, disco_ratio(LOGP, old, *rows, tau=1.0, threshold=0.5).value)
