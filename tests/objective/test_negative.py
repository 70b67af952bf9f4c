"""NFT against numbers by hand, the gradients it states, and the policy gradients it reduces to."""

import math

import pytest
import torch

from rlpost import step
from rlpost.objective.negative import nft
from tests import toy

NAN, F64 = math.nan, torch.float64
# Group 1: one right row of four (and one without a reward); group 0: all right; group 4: a wrong row alone.
MASK = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1], [1, 0], [1, 0], [1, 1]]).bool()
GROUP = torch.tensor([1, 1, 1, 1, 1, 0, 0, 4])
REWARD = torch.tensor([1.0, 0.0, 0.3, 0.0, NAN, 1.0, 1.0, 0.0], dtype=F64)
OLD = -torch.tensor([[1.0, 2], [1, 9], [1, 2], [9, 3], [1, 1], [1, 9], [2, 9], [1, 1]], dtype=F64)
RATIO = torch.tensor([[2.0, 0.5], [3, 1], [0.4, 1.5], [1, 6], [2, 2], [2, 1], [2, 1], [3, 3]], dtype=F64)
WEIGHT = {"centred": 0.75, "standardised": 3**0.5, "none": 1.0}  # of r = 1/4


@pytest.mark.parametrize("scale", WEIGHT)
def test_values_and_gradients(scale):
    logp, w = (OLD + RATIO.log()).requires_grad_(), WEIGHT[scale]
    loss = nft(logp, OLD, MASK, REWARD, GROUP, epsilon=0.5, negative_weight=0.8, scale=scale)
    # v = (1 - R/4) / (3/4): R = 3 -> 1/3 held at .5; .4 -> 1.2; 1.5 -> 5/6; 6 -> -2/3 held at .5
    log = math.log
    wanted = {(0, 0): -log(2), (0, 1): -log(0.5), (1, 0): -0.8 * log(0.5), (2, 0): -0.8 * log(1.2)}
    wanted |= {(2, 1): -0.8 * log(5 / 6), (3, 1): -0.8 * log(0.5)}
    for (n, t), value in wanted.items():
        assert loss.value[n, t].item() == pytest.approx(w * value), (n, t)
    assert (loss.value[4:] == 0).all()
    gradient = torch.autograd.grad(loss.value[MASK].sum(), logp)[0]
    # right: -1; wrong: .8 * (1/3) R / max(v, .5)
    third = 0.8 / 3
    wanted = {(0, 0): -1.0, (0, 1): -1.0, (1, 0): third * 3 / 0.5, (2, 0): third * 0.4 / 1.2}
    wanted |= {(2, 1): third * 1.5 / (5 / 6), (3, 1): third * 6 / 0.5}
    for (n, t), value in wanted.items():
        assert gradient[n, t].item() == pytest.approx(w * value), (n, t)
    assert (gradient[4:] == 0).all() and (gradient[~MASK] == 0).all()
    assert loss.metrics["held"][MASK].tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert loss.metrics["correct_rate"].tolist() == [0.25] * 5 + [1.0] * 2 + [0.0]


def test_a_wrong_token_grown_to_three_times_its_probability():
    """R = 3, r = 1/2: v = -1 is held at 1, the loss is 0 and its gradient with respect to R is r / (1 - r) times w."""
    logp = torch.tensor([[0.0], [math.log(3) - 2]], dtype=F64, requires_grad=True)
    old, mask, reward = torch.tensor([[0.0], [-2.0]], dtype=F64), torch.ones(2, 1).bool(), torch.tensor([1.0, 0.0])
    loss = nft(logp, old, mask, reward, torch.zeros(2, dtype=torch.long))
    assert loss.value[1].item() == 0
    assert torch.autograd.grad(loss.value.sum(), logp)[0][1].item() == pytest.approx(0.5 * 1.0 * 3)


def test_the_threshold_and_rejection_fine_tuning():
    assert nft(OLD, OLD, MASK, REWARD, GROUP, threshold=0.2).metrics["correct_rate"][0] == 0.5
    logp = (OLD + RATIO.log()).requires_grad_()
    gradient = torch.autograd.grad(nft(logp, OLD, MASK, REWARD, GROUP, negative_weight=0.0).value.sum(), logp)[0]
    assert gradient[0].tolist() == [-0.75, -0.75] and (gradient[1:] == 0).all()


def test_the_rate_and_the_ratio_are_bounded():
    reward = torch.zeros(100, dtype=F64)
    reward[0] = 1.0
    old = -torch.ones(100, 1, dtype=F64)
    logp = old.clone()
    logp[0], logp[1] = 10.0, 49.0
    logp.requires_grad_()
    loss = nft(logp, old, torch.ones(100, 1).bool(), reward, torch.zeros(100, dtype=torch.long))
    gradient = torch.autograd.grad(loss.value.sum(), logp)[0][:, 0]
    # r = 1/100 is held at .02: the right row has 1 - .02, a wrong one on policy .02; beyond 10 nats nothing
    assert loss.value[0].item() == pytest.approx(-0.98 * 10) and gradient[:2].tolist() == [0, 0]
    assert gradient[2].item() == pytest.approx(0.02)


@pytest.mark.parametrize(("scale", "name"), [("centred", "dr_grpo"), ("standardised", "grpo")])
def test_on_policy_it_is_the_policy_gradient(scale, name):
    rewards = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0, 1])[:, None]
    group, lengths = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1]), torch.tensor([2, 4, 1, 3, 4, 2, 2, 4, 1])
    mask = torch.arange(4) < lengths[:, None]
    old = -torch.rand(9, 4, dtype=F64, generator=torch.Generator().manual_seed(1)) - 0.1
    gradients = []
    population = ["advantage=population_zscore"] if name == "grpo" else []
    for recipe in (
        toy.recipe("nft", f"objective.scale={scale}", "rollout.max_tokens=7"),
        toy.recipe(name, *population, "aggregate=fixed_length", "rollout.max_tokens=7"),
    ):
        credit = step.score(toy.scored(rewards, group, mask, old), recipe).scored
        logp = old.clone().requires_grad_()
        value, _ = step.loss(toy.batch(credit, logp), recipe, step.counts(credit))
        gradients.append(torch.autograd.grad(value, logp)[0])
    torch.testing.assert_close(*gradients, rtol=2e-6, atol=1e-7)
    assert gradients[0].abs().max() > 1e-3


def test_defaults_are_the_published_script():
    given = (OLD + RATIO.log(), OLD, MASK, REWARD, GROUP)
    explicit = nft(*given, epsilon=1.0, negative_weight=1.0, scale="centred", threshold=0.5)
    assert torch.equal(nft(*given).value, explicit.value)
