"""g_opd: with the scale above 1 the policy ends past the teacher, where plain distillation ends at it."""

import pytest
import torch
from torch.distributions import Categorical

from rlpost import step
from tests import toy

REF = torch.tensor([0.2, 0.3, 0.1, 0.25, 0.15])
TEACHER = torch.tensor([0.1, 0.4, 0.3, 0.1, 0.1])


def learnt(overrides, seed, steps=300):
    """The policy of five arms after training on samples of its own, from the reference."""
    torch.manual_seed(seed)
    method = toy.recipe("g_opd", *overrides)
    logits = REF.log()[None].clone().requires_grad_()
    prompt, group = torch.zeros(256, dtype=torch.long), torch.arange(256)
    for _ in range(steps):
        tokens = Categorical(logits=logits.detach()[prompt]).sample()[:, None]
        logp = toy.logp_of(logits, prompt, tokens)
        frozen = {"ref_logp": REF.log()[tokens], "teacher_logp": TEACHER.log()[tokens], "tokens": tokens}
        mask, none = torch.ones_like(tokens, dtype=torch.bool), torch.full((256, 1), torch.nan)
        credit = step.score(toy.scored(none, group, mask, logp.detach(), **frozen), method).scored
        value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
        (gradient,) = torch.autograd.grad(value, logits)
        with torch.no_grad():
            logits -= 0.5 * gradient
    return logits.detach().softmax(-1)[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_is_the_extrapolated_one(seed):
    optimum = REF * (TEACHER / REF) ** 1.25
    optimum = optimum / optimum.sum()
    assert optimum[2].item() == pytest.approx(0.366, abs=5e-4)  # the teacher has 0.3, the reference 0.1
    beyond, plain = learnt([], seed), learnt(["advantage=teacher_gain"], seed)
    apart = [(p - q).abs().sum().item() / 2 for p, q in ((beyond, optimum), (plain, TEACHER))]
    assert max(apart) < 0.02, (beyond, plain)
    assert beyond[2] > 0.34 and plain[2] < 0.32
