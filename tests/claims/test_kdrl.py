"""kdrl: a teacher's density finds the rare success that rollouts miss, and reward goes on past the teacher."""

import pytest
import torch
from torch.distributions import Categorical

from rlpost import step
from rlpost.divergence.top_k import policy_top_k_reverse_kl
from tests import toy

LENGTH, WORDS = 5, 20
STRONG = "regularizer.teacher_k2.coef=0.3"  # on five tokens; the paper's 5e-3 is for completions of thousands


def solved(recipe, overrides, seed, steps=500, lr=20.0):
    """A chain of five words out of twenty, rewarded when all are right (3e-7 at the start; the teacher: 0.8^5 = 0.33).

    Returns the probability of a right chain after training.
    """
    torch.manual_seed(seed)
    method = toy.recipe(recipe, *overrides)
    teacher = torch.full((LENGTH, WORDS), 0.2 / (WORDS - 1))
    teacher[:, 0] = 0.8
    logits, place = torch.zeros(LENGTH, WORDS, requires_grad=True), torch.arange(LENGTH)
    for i in range(steps):
        now = {"step": i, "progress": i / steps}
        tokens = Categorical(logits=logits.detach()).sample((16,))
        logp = torch.log_softmax(logits, -1)[place, tokens]
        reward = (tokens == 0).all(-1, keepdim=True).float()
        mask, group = torch.ones_like(tokens, dtype=torch.bool), torch.zeros(16, dtype=torch.long)
        credit = step.score(toy.scored(reward, group, mask, logp.detach(), tokens=tokens), method, **now).scored
        more = {"teacher_logp": teacher[place, tokens].log()}
        if "teacher_divergence" in method.reads():
            more["teacher_divergence"] = policy_top_k_reverse_kl(teacher.log(), logits, k=5).expand(16, LENGTH)
        batch = toy.batch(credit, logp, **more)
        value, _ = step.loss(batch, method, step.counts(credit), **now)
        (gradient,) = torch.autograd.grad(value, logits)
        with torch.no_grad():
            logits -= lr * gradient
    return logits.detach().softmax(-1)[:, 0].prod().item()


@pytest.mark.parametrize("seed", range(3))
def test_it_goes_past_the_teacher_where_grpo_never_starts(seed):
    grpo = solved("grpo", [], seed)
    distilled = solved("kdrl", [STRONG, "+objective.coef=0.0"], seed)
    both = solved("kdrl", [STRONG], seed)
    assert grpo < 1e-3 and distilled < 0.6 and both > distilled + 0.2, (grpo, distilled, both)


@pytest.mark.parametrize("seed", range(3))
def test_so_it_does_over_the_policys_five_likeliest_words(seed):
    """The exact divergence renormalised on the top 5 of 20, in the place of the estimate from one word."""
    top = ["regularizer=[teacher_kl]", "divergence=policy_top_k_reverse_kl", "regularizer.teacher_kl.coef=0.3"]
    distilled, both = solved("kdrl", [*top, "+objective.coef=0.0"], seed), solved("kdrl", top, seed)
    assert distilled < 0.6 and both > distilled + 0.2, (distilled, both)
