"""Coefficients that read the mean of their term over the step: two phases against autograd over the whole step."""

import functools

import pytest
import torch

from rlpost import schedule, step
from rlpost.aggregate.means import row_mean, token_mean
from rlpost.coefficient import hinge
from rlpost.step import Method, Term
from rlpost.types import NT, Loss
from tests import toy
from tests.test_step import CUTS, MASK, credit, method, numbers


def drift(logp: NT, old_logp: NT) -> Loss:
    return Loss(old_logp - logp)


def hinged(scale: float = 50.0, threshold: float = -0.2, aggregate=token_mean) -> Method:
    coef = functools.partial(hinge, scale=scale, threshold=threshold)
    return method(regularizer=(Term("drift", drift, coef, aggregate),))


def parts_of(how, credit, logp, cut):
    counts = step.counts(credit, micro_batches=len(cut))
    return [(toy.batch(credit, logp[rows], torch.tensor(rows, dtype=torch.long)), counts) for rows in cut]


@pytest.mark.parametrize("cut", [[[0, 1, 2, 3, 4, 5]], *CUTS])
@pytest.mark.parametrize("aggregate", [token_mean, row_mean])
def test_a_hinge_over_the_step_has_the_gradient_of_its_square(aggregate, cut):
    """Two phases over micro-batches equal autograd of scale/2 * max(mean - threshold, 0)^2 over the whole step."""
    old, logp = numbers(4)
    how = hinged(aggregate=aggregate)
    done = credit(how, old).scored
    free = logp.clone().requires_grad_()
    rows = (old - free) * MASK
    mean = rows.sum() / 17 if aggregate is token_mean else (rows.sum(-1) / MASK.sum(-1)).mean()
    excess = mean + 0.2
    assert 0.05 < excess < 1
    plain, _ = step.loss(toy.batch(done, free), method(), step.counts(done))
    expected = torch.autograd.grad(plain + 25 * excess.clamp(min=0) ** 2, free)[0]
    free = logp.clone().requires_grad_()
    batches = parts_of(how, done, free, cut)
    sums = [step.measure(batch, how, counts) for batch, counts in batches]
    means = {"drift": sum(one["drift"] for one in sums)}
    assert float(means["drift"]) == pytest.approx(float(mean.detach()), abs=1e-6) and not means["drift"].requires_grad
    found = [step.loss(batch, how, counts, means=means) for batch, counts in batches]
    torch.testing.assert_close(torch.autograd.grad(sum(f[0] for f in found), free)[0], expected, atol=1e-6, rtol=1e-5)
    coef = sum(f[1]["drift/coef"].total for f in found) / sum(f[1]["drift/coef"].count for f in found)
    assert float(coef) == pytest.approx(50 * float(excess.detach()), rel=1e-5)


def test_below_the_threshold_a_hinge_adds_nothing():
    old, logp = numbers(4)
    how = hinged(threshold=0.3)
    done = credit(how, old).scored
    free = logp.clone().requires_grad_()
    batch, counts = toy.batch(done, free), step.counts(done)
    value, _ = step.loss(batch, how, counts, means=step.measure(batch, how, counts))
    plain, _ = step.loss(batch, method(), counts)
    assert torch.equal(torch.autograd.grad(value, free)[0], torch.autograd.grad(plain, free)[0])


def test_scheduled_knobs_of_a_coefficient_and_what_is_missing():
    old, logp = numbers(4)
    rising = functools.partial(schedule.linear, start=0.0, end=80.0)
    how = hinged(scale=rising)
    done = credit(how, old).scored
    batch, counts = toy.batch(done, logp), step.counts(done)
    means = step.measure(batch, how, counts, progress=0.25)
    _, found = step.loss(batch, how, counts, progress=0.25, means=means)
    assert float(found["drift/coef"].total) == pytest.approx(20 * (float(means["drift"]) + 0.2), rel=1e-5)
    with pytest.raises(ValueError, match=r"drift.*was not measured"):
        step.loss(batch, how, counts)
    assert [term.name for term in how.measured] == ["drift"] and not method().measured
    assert step.measure(batch, method(), counts) == {}
