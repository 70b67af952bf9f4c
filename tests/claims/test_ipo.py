"""ipo: on deterministic preferences the margin stops at 1/(2 beta), where DPO's never does."""

import pytest
import torch
from torch.nn.functional import log_softmax

from rlpost.preference.direct import dpo, ipo

ONE = torch.ones(1, 1, dtype=torch.bool)


def margins(loss, seed, beta, steps):
    """Log-ratio difference of two answers of one token, after each quarter of the steps."""
    reference = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    logits, found = reference.clone().requires_grad_(), []
    optimizer = torch.optim.SGD([logits], lr=0.1 / beta if loss is dpo else 0.1)
    for i in range(1, steps + 1):
        logp, ref = log_softmax(logits, -1), log_softmax(reference, -1)
        value = loss(
            *(x.reshape(1, 1) for x in logp[:2]), ONE, ONE, *(x.reshape(1, 1) for x in ref[:2]), beta=beta
        ).value
        optimizer.zero_grad()
        value.sum().backward()
        optimizer.step()
        if i % (steps // 4) == 0:
            found.append((logits - reference)[0].sub((logits - reference)[1]).item())
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_margin_is_bounded(seed, beta):
    bounded, free = margins(ipo, seed, beta, 400), margins(dpo, seed, beta, 400)
    assert bounded[1] == pytest.approx(1 / (2 * beta), rel=1e-6) and bounded[3] == pytest.approx(bounded[1], rel=1e-6)
    assert free[0] > 1 / (2 * beta) and free[3] > free[2] > free[1] > free[0]
