"""CoPG on scored pairs: by hand, as IPO, as the objective on groups of two, and where it ends."""

import pytest
import torch

from rlpost.objective import regression
from rlpost.preference.contrast import copg
from rlpost.preference.direct import ipo

F64 = torch.float64
LOGP = torch.tensor([[-1.0, -0.5, 9.0], [-2.0, -0.3, -0.2]], dtype=F64)
OTHER = torch.tensor([[-0.7, 9.0, 9.0], [-1.1, -0.4, 9.0]], dtype=F64)
REF, REF_OTHER = LOGP - 0.3, OTHER + 0.2
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
OTHER_MASK = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
WIN, LOSE = torch.tensor([1.0, 0.5], dtype=F64), torch.tensor([0.25, 0.75], dtype=F64)


def test_by_hand_and_in_either_order():
    """rho 0.6 and -0.2, then 0.9 and -0.4; gaps 0.75 - 0.4 * 0.8 and -0.25 - 0.4 * 1.3."""
    given = (LOGP, OTHER, MASK, OTHER_MASK, REF, REF_OTHER, WIN, LOSE)
    value = copg(*given, beta=0.4).value
    assert value.tolist() == pytest.approx([0.43**2 / 0.8, 0.77**2 / 0.8])
    swapped = copg(OTHER, LOGP, OTHER_MASK, MASK, REF_OTHER, REF, LOSE, WIN, beta=0.4).value
    torch.testing.assert_close(swapped, value)
    assert torch.equal(copg(*given).value, copg(*given, beta=0.1).value)
    leaf = LOGP.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(copg(leaf, *given[1:], beta=0.4).value.sum(), leaf)
    torch.testing.assert_close(gradient, torch.tensor([[-0.43], [0.77]], dtype=F64) * MASK)


def test_it_is_the_objective_on_groups_of_two_and_ipo_on_quarters():
    pairs = torch.stack([LOGP[1, :2], OTHER[1, :2]])
    refs, ones = torch.stack([REF[1, :2], REF_OTHER[1, :2]]), torch.ones(2, 2).bool()
    reward = torch.tensor([0.5, 0.75], dtype=F64)
    grouped = regression.copg(pairs, refs, ones, reward, torch.zeros(2).long(), beta=0.3).value
    one = copg(pairs[:1], pairs[1:], ones[:1], ones[1:], refs[:1], refs[1:], reward[:1], reward[1:], beta=0.3).value
    assert grouped[:, 0].tolist() == pytest.approx([one.item()] * 2)
    token = [table[:1, :1] for table in (LOGP, OTHER, MASK, OTHER_MASK, REF, REF_OTHER)]
    quarter = torch.tensor([0.25], dtype=F64)
    assert copg(*token, quarter, -quarter, beta=0.2).value.item() == pytest.approx(
        0.1 * ipo(*token, beta=0.2).value.item()
    )


def test_uniform_pairs_lead_to_the_tilted_reference():
    """Three answers, all pairs of them alike: ref exp(R / beta), normalised."""
    reward = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    logits, ref = torch.zeros(3, dtype=F64, requires_grad=True), torch.log(torch.tensor([0.5, 0.3, 0.2], dtype=F64))
    a, b = torch.combinations(torch.arange(3)).T
    ones = torch.ones(3, 1).bool()
    optimizer = torch.optim.SGD([logits], lr=0.3)
    for _ in range(400):
        logp = logits.log_softmax(-1)[:, None]
        refs = ref[:, None]
        loss = copg(logp[a], logp[b], ones, ones, refs[a], refs[b], reward[a], reward[b], beta=0.5).value.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(logits.detach().softmax(-1), (ref + reward / 0.5).softmax(-1), atol=1e-4, rtol=0)
