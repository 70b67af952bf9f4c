"""deepvideo_r1: no sample of a mixed group loses its gradient, where PPO's clip silences a third."""

import pytest
import torch

from rlpost import step
from rlpost.stack import Reward, RewardStack
from tests import tabular, toy

GROUPS, G = 200, 8


@pytest.mark.parametrize("seed", range(3))
def test_share_of_samples_without_a_gradient(seed):
    """200 random groups of 8 with log-ratios of deviation 0.5."""
    rng, silent = torch.Generator().manual_seed(seed), {}
    old = -torch.rand(GROUPS * G, 1, generator=rng) - 0.5
    moved = old + 0.5 * torch.randn(GROUPS * G, 1, generator=rng)
    rewards = torch.randn(GROUPS * G, 1, generator=rng)
    group = torch.arange(GROUPS).repeat_interleave(G)
    for name in ("grpo", "deepvideo_r1"):
        method, logp = toy.recipe(name), moved.clone().requires_grad_()
        mask = torch.ones(GROUPS * G, 1, dtype=torch.bool)
        # the reference is the current policy, so the KL term adds nothing to either
        credit = step.score(toy.scored(rewards, group, mask, old, ref_logp=moved), method).scored
        value, _ = step.loss(toy.batch(credit, logp), method, step.counts(credit))
        silent[name] = (torch.autograd.grad(value, logp)[0] == 0).float().mean().item()
    assert silent["deepvideo_r1"] == 0 and 0.28 < silent["grpo"] < 0.4, silent


@pytest.mark.parametrize("seed", range(3))
def test_the_bandit_is_learnt(seed):
    right, reached = torch.tensor([3, 1, 4]), {}
    for name in ("deepvideo_r1", "grpo"):
        logits = torch.zeros(3, 8)
        toy.train(
            logits,
            lambda q, t: (t == right[q][:, None]).float(),
            toy.recipe(name),
            steps=30,
            lr=1.0,
            seed=seed,
            updates=4,
        )
        reached[name] = logits.detach().softmax(-1)[torch.arange(3), right].tolist()
    assert min(reached["deepvideo_r1"]) > 0.9, reached


LETTERS, HARD, EASY = (
    "abc",
    {"h0": "abca", "h1": "bcab", "h2": "cabc", "h3": "aabb"},
    dict.fromkeys(("e0", "e1", "e2", "e3"), "a"),
)
BEGINS = "begins with: "


def state(question, text):
    """Row 0 writes any letter; rows 1 to 3 write one: what a hint has at this place, and what is easy."""
    if any(name in question for name in EASY):
        return 1
    hint = question.partition(BEGINS)[2].split("\n")[0] if BEGINS in question else ""
    return 1 + LETTERS.index(hint[len(text)]) if len(text) < len(hint) else 0


def silent_share(seed, *overrides):
    """The share of the hard questions' training groups whose 8 completions all earn the same, over 60 steps."""
    logits = torch.cat([torch.zeros(1, 3), 9.0 * torch.eye(3)])
    collect, _, sampling, n = tabular.collected("deepvideo_r1", "rollout.max_tokens=4", *overrides)
    policy = tabular.Tabular(LETTERS, logits, state, seed)
    stack = RewardStack({"right": Reward(lambda rows: [float(r.text.startswith(r.task.answer)) for r in rows])})
    tasks = [tabular.task(name, answer) for name, answer in {**HARD, **EASY}.items()]
    notes, silent = {}, []
    for i in range(60):
        ctx = tabular.context(policy, stack, sampling, n, seed=seed * 1000 + i, step=i, prompts=notes)
        rows = collect(tasks, ctx)
        ctx.score(rows)
        for name in HARD:
            trained = [row for row in rows if row.task.id == name and any(row.trains)]
            silent.append(len({row.scores["right"] for row in trained}) == 1)
    return sum(silent) / len(silent)


@pytest.mark.parametrize("seed", range(3))
def test_hints_leave_fewer_groups_without_a_signal(seed):
    hinted, plain = silent_share(seed), silent_share(seed, "rollout=sample")
    assert hinted < 0.65 and plain > 0.8, (hinted, plain)
