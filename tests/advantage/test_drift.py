"""PRL by hand: each step takes, at its end, the outcome less what is still to come of the log-ratio."""

import pytest
import torch

from rlpost.advantage.drift import prl_process
from rlpost.advantage.group import group_zscore

SPAN = torch.tensor([[0, 0, 1, 1, 2, 2], [0, 0, 0, -1, -1, -1], [-1, -1, 0, 0, -1, -1]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 0]]).bool()
D = torch.tensor([[0.1, 0.2, -0.4, 0.3, 0.6, 9.0], [0.5, -0.1, 0.2, 9.0, 9.0, 9.0], [1.0, 9.0, 0.25, 0.5, -0.5, 9.0]])
REF = torch.tensor([[-1.0, -2.0, -0.5, -1.5, -3.0, -1.0]] * 3)
REWARDS, WEIGHTS, GROUP = torch.tensor([[1.0], [0.0], [0.5]]), torch.tensor([2.0]), torch.tensor([0, 0, 3])


def credit(rewards=REWARDS, drift=D, **knobs):
    return prl_process(rewards, WEIGHTS, GROUP, REF + drift, REF, MASK, SPAN, **knobs)


def test_golden():
    """Row 0 ends spans at 1, 3 and 4 (5 does not train): what is to come there is .7, .9 and .6, ends included.

    Row 1 ends at 2 with .2. Row 2 is alone, so that it has its reward 1; it ends its
    span at 3 with 0 to come, and its last token, in no span, at 4 with -.5.
    """
    z = 1 / (2.0**0.5 + 1e-6)  # rewards 2 and 0: deviation sqrt(2), distance to the mean 1
    a, b, c = z - 0.7 / 4, z - 0.9 / 4, z - 0.6 / 4
    want = [[a, a, b, b, c, 0], [-z - 0.05] * 3 + [0] * 3, [1, 0, 1, 1, 1.125, 0]]
    torch.testing.assert_close(credit(eta=4.0), torch.tensor(want), atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", ["no penalty", "no drift"])
def test_reduces_to_grpo(case):
    got = credit(eta=float("inf")) if case == "no penalty" else credit(drift=torch.zeros_like(D))
    z = group_zscore(REWARDS, WEIGHTS, GROUP, epsilon=1e-6) + torch.tensor([0, 0, 1.0])  # alone: the reward itself
    torch.testing.assert_close(got, torch.where(MASK, z[:, None], 0.0), atol=1e-6, rtol=0)
