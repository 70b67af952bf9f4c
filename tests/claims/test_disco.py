"""disco: GRPO weighs a question by sqrt(p(1-p)) of its share p of right answers, DisCO does not; a hinge bounds KL."""

import math
from dataclasses import replace

import pytest
import torch

from rlpost import step
from tests import toy


@pytest.mark.parametrize("right", [1, 4, 6])
def test_the_push_does_not_depend_on_the_difficulty(right):
    """Summed over the right rows of a group of 8."""
    rewards, p = [1.0] * right + [0.0] * (8 - right), right / 8
    pushed = {name: toy.push(name, [1] * 8, rewards)[:right].sum().item() for name in ("disco", "grpo")}
    assert pushed["disco"] == pytest.approx(1.0, rel=1e-5)
    # the sample deviation is sqrt(8/7) times sqrt(p(1-p))
    assert pushed["grpo"] == pytest.approx(math.sqrt(p * (1 - p) * 7 / 8), rel=1e-3)


def learnt(name, lr, seed):
    """Probabilities of the right arm after 10 steps on a question that starts at 5% and one that starts at 50%."""
    start = torch.tensor([0.05, 0.5])
    logits = torch.zeros(2, 10)
    logits[:, 0] = (9 * start / (1 - start)).log()
    right = lambda _, tokens: (tokens == 0).float()  # noqa: E731
    toy.train(logits, right, toy.recipe(name), steps=10, lr=lr, seed=seed, n=64)
    return logits.detach().softmax(-1)[:, 0].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_hard_question_is_learnt_sooner_at_equal_speed_on_a_medium_one(seed):
    """GRPO gets twice the learning rate: at p = 1/2 its weight is a half, so both begin the medium question alike."""
    hard, medium = learnt("disco", 1.0, seed)
    other, same = learnt("grpo", 2.0, seed)
    assert hard > other + 0.1 and abs(medium - same) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_many_updates_on_a_batch_stay_within_the_trust_region(seed):
    """300 updates on 1024 samples; the penalty is soft, so the KL settles above delta = 1e-4."""
    rng, reached, whole = torch.Generator().manual_seed(seed), {}, toy.recipe("disco")
    start = 0.3 * torch.randn(1, 6, generator=rng)
    tokens = torch.multinomial(start.softmax(-1), 1024, replacement=True, generator=rng).T
    prompt = torch.zeros(1024, dtype=torch.long)
    old = toy.logp_of(start, prompt, tokens)
    for name, method in (("hinge", whole), ("free", replace(whole, regularizer=()))):
        record = toy.scored((tokens == tokens[0]).float(), prompt, torch.ones(1024, 1, dtype=torch.bool), old)
        credit, logits = step.score(record, method).scored, start.clone().requires_grad_()
        for _ in range(300):
            batch, counts = toy.batch(credit, toy.logp_of(logits, prompt, tokens)), step.counts(credit)
            value, _ = step.loss(batch, method, counts, means=step.measure(batch, method, counts))
            with torch.no_grad():
                logits -= 4e-3 * torch.autograd.grad(value, logits)[0]
        p, q = start.log_softmax(-1), logits.detach().log_softmax(-1)
        reached[name] = (p.exp() * (p - q)).sum().item()
    assert reached["hinge"] < 0.04 < 0.15 < reached["free"], reached
