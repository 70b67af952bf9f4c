"""Losses of self-play: numbers by hand, reductions, and which way they push."""

import pytest
import torch

from rlpost.preference.direct import dpo
from rlpost.preference.self_play import cream, sppo, sppo_single
from tests.strategies import field

F64 = torch.float64
NAMES = ["chosen_logp", "rejected_logp", "chosen_mask", "rejected_mask", "ref_chosen_logp", "ref_rejected_logp"]
# chosen: log-ratios .4 and .2 (a masked third of 9); rejected: -.1, -.3, .7
PAIR = [
    torch.tensor([[-0.6, -0.8, -1.0]], dtype=F64),
    torch.tensor([[-1.1, -1.3, -0.3]], dtype=F64),
    torch.tensor([[True, True, False]]),
    torch.tensor([[True, True, True]]),
    torch.tensor([[-1.0, -1.0, -10.0]], dtype=F64),
    torch.tensor([[-1.0, -1.0, -1.0]], dtype=F64),
]


def t(*values):
    return torch.tensor(values, dtype=F64)


def test_sppo():
    """eta 10: targets 3 and -2; d = .6 and .3: (.5)(2.4^2 + 2.3^2)."""
    loss = sppo(*PAIR, t(0.8), t(0.3), beta=0.1)
    assert loss.value.item() == pytest.approx(0.5 * (2.4**2 + 2.3**2), rel=1e-9)
    assert loss.metrics["chosen_reward"].item() == pytest.approx(0.06)
    assert loss.metrics["margin"].item() == pytest.approx(0.03)
    single = sppo_single(*PAIR, t(0.8), beta=0.1).value.item()
    assert single == pytest.approx(0.5 * (2.4**2 + 3.3**2), rel=1e-9)
    assert single == pytest.approx(sppo(*PAIR, t(0.8), t(0.2), beta=0.1).value.item(), rel=1e-12)


def test_sppo_moves_each_answer_by_its_own_chance():
    """At the reference d value / d logp = -eta * (win - 1/2): 300 up, 200 down, and both up where both win."""
    ref = [PAIR[4], PAIR[5]]
    for wins, pushes in (((0.8, 0.3), (300.0, -200.0)), ((0.8, 0.6), (300.0, 100.0))):
        now = [one.clone().requires_grad_() for one in ref]
        gradient = torch.autograd.grad(sppo(*now, PAIR[2], PAIR[3], *ref, t(wins[0]), t(wins[1])).value.sum(), now)
        assert [-g[0, 0].item() for g in gradient] == pytest.approx(pushes)


def test_cream_mixes_the_pair_with_its_reverse():
    a, b, m, n, p, q = PAIR
    right, wrong = dpo(*PAIR, beta=0.2).value.item(), dpo(b, a, n, m, q, p, beta=0.2).value.item()
    found = cream(*PAIR, t(0.7), beta=0.2)
    assert found.value.item() == pytest.approx(0.7 * right + 0.3 * wrong, rel=1e-12)
    assert found.metrics["consistency"].item() == 0.7


@pytest.mark.parametrize("seed", range(3))
def test_cream_is_dpo_with_smoothed_labels(seed):
    pair = [field(name, 3, 4, seed) for name in NAMES]
    for c in (0.0, 0.3, 1.0):
        smooth = dpo(*pair, beta=0.3, label_smoothing=1 - c).value
        torch.testing.assert_close(cream(*pair, t(c, c, c), beta=0.3).value, smooth, rtol=1e-10, atol=1e-12)
