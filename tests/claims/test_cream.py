"""cream: a label is believed as far as two rankings agree. about has the numbers."""

import functools

import pytest
import torch

from rlpost.build.consistent import self_ranked
from rlpost.preference.direct import dpo
from rlpost.preference.self_play import cream
from tests.claims.arms import answers, prefer

PROMPTS, ARMS = 60, 8


class Table:
    """A policy as a second model."""

    def __init__(self, name, logits):
        self.identity, self.logp_of = name, logits.log_softmax(-1)

    def logp(self, prompts, completions):
        return [
            [self.logp_of[int(p[-1]["content"]), int(text)].item()]
            for p, text in zip(prompts, completions, strict=True)
        ]


@pytest.mark.parametrize(("turned", "c"), [(1.0, 1.0), (-1.0, 0.0), (None, 0.5)])
def test_agreement_decides_what_is_learnt(turned, c):
    """The same, the reverse and an unrelated ranking: C is 1, 0 and about 1/2, and the pair is learnt, turned, left."""
    rng = torch.Generator().manual_seed(0)
    start = torch.zeros(PROMPTS, ARMS, dtype=torch.float64)
    noise = torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    other = torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64) if turned is None else turned * noise
    models = {"current": Table("b", noise), "previous": Table("a", other), "start": Table("0", start)}
    rows = self_ranked(answers(start, 5, rng, lambda p, a: 0.0), models)
    # Of 60 rankings of up to 5 answers a share of .5 has a standard error of about .03.
    assert rows[0].columns["consistency"] == pytest.approx(c, abs=0.1 if turned is None else 1e-12)
    policy = start.clone()
    prefer(policy, start, rows, functools.partial(cream, beta=0.1), lr=1.0, facts=("consistency",))
    margin = sum(
        (policy[int(r.id), int(r.columns["chosen"])] - policy[int(r.id), int(r.columns["rejected"])]).item()
        for r in rows
    )
    # d loss / d margin = -beta * (C - 1/2) at the reference, for two logits each, over the mean of the rows
    assert margin == pytest.approx(2 * 0.1 * (rows[0].columns["consistency"] - 0.5), rel=1e-9, abs=1e-12)


def accuracy(seed, loss, facts, noise):
    """Two rounds of self-rewarding from a model with a noisy sense of what is good; pairs that it then orders right."""
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    start = torch.zeros(PROMPTS, ARMS, dtype=torch.float64)
    previous = start + 0.3 * truth + noise * torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    current = start + 0.3 * truth + noise * torch.randn(PROMPTS, ARMS, generator=rng, dtype=torch.float64)
    for _ in range(2):
        models = {"current": Table("b", current), "previous": Table("a", previous), "start": Table("0", start)}
        rows = self_ranked(answers(current, 5, rng, lambda p, a: 0.0), models, level="prompt")
        policy = current.clone()
        prefer(policy, current, rows, loss, lr=60.0, steps=30, facts=facts)
        previous, current = current, policy
    right = (current[:, :, None] - current[:, None]) * (truth[:, :, None] - truth[:, None]) > 0
    return right.double().sum().item() / (PROMPTS * ARMS * (ARMS - 1))


def test_noisy_labels():
    """The mean over 3 seeds, at two sizes of the noise; single seeds go either way."""
    for noise in (0.3, 1.0):
        found = [
            (
                accuracy(seed, functools.partial(cream, beta=0.1), ("consistency",), noise),
                accuracy(seed, functools.partial(dpo, beta=0.1), (), noise),
            )
            for seed in range(3)
        ]
        assert sum(a - b for a, b in found) >= 0, found
