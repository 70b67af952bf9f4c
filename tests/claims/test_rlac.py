"""rlac: a critic that learns drives out every flaw; one that always tests the same flaw only moves the generator."""

import json
import random

import pytest
import torch
from torch.nn.functional import log_softmax

from rlpost.build.game import critic_pairs, generator_pairs
from rlpost.preference.direct import dpo
from rlpost.types import Task
from tests.build.rows import said

# Outputs 0, 1, 2 have the flaw of that number, output 3 has none and is the least likely at the start.
START = [1.0, 0.0, 0.0, -1.5]
CLEAN, PROMPTS, OUTPUTS, ATTACKS = 3, 16, 8, 2


def learn(logits, optimizer_lr, rows, chosen, rejected):
    """Four steps of DPO on `logits (contexts, choices)`, the reference being what they are now."""
    if not rows:
        return logits
    policy, reference = logits.clone().requires_grad_(True), log_softmax(logits, -1)
    optimizer = torch.optim.SGD([policy], lr=optimizer_lr)
    one = torch.ones(len(rows), 1, dtype=torch.bool)
    for _ in range(4):
        logp = log_softmax(policy, -1)
        pick = lambda table, choice: table[rows, choice][:, None]  # noqa: E731
        loss = dpo(
            pick(logp, chosen), pick(logp, rejected), one, one, pick(reference, chosen), pick(reference, rejected)
        )
        optimizer.zero_grad()
        loss.value.mean().backward()
        optimizer.step()
    return policy.detach()


def play(seed: int, critic: torch.Tensor, *, trained: bool, iterations: int = 40):
    """The generator's final probabilities, and how often the validator was called until .95 of them were clean."""
    rng, torch_rng = random.Random(seed), torch.Generator().manual_seed(seed)
    draw = lambda logits, n: torch.multinomial(logits.softmax(-1), n, replacement=True, generator=torch_rng).tolist()  # noqa: E731
    generator = torch.tensor([START])
    calls, reached = 0, None
    for _ in range(iterations):
        rollouts = []
        for prompt in range(PROMPTS):
            for arm in draw(generator[0], OUTPUTS):
                tests = draw(critic[arm], ATTACKS)
                attacks = [{"reply": str(flaw), "valid": True, "passed": flaw != arm} for flaw in tests]
                row = said(Task(str(prompt), ()), str(arm), survives=min(float(one["passed"]) for one in attacks))
                row.info["attacks"] = json.dumps(attacks)
                rollouts.append(row)
                calls += len(attacks)
        pairs = [
            (0, int(one.columns["chosen"]), int(one.columns["rejected"])) for one in generator_pairs(rollouts, rng)
        ]
        attacks = [
            (int(one.prompt[0]["content"]), int(one.columns["chosen"]), int(one.columns["rejected"]))
            for one in critic_pairs(rollouts, rng, template="{program}")
        ]
        generator = learn(generator, 10.0, *map(list, zip(*pairs, strict=True))) if pairs else generator
        if trained and attacks:
            critic = learn(critic, 100.0, *map(list, zip(*attacks, strict=True)))
        if reached is None and generator[0].softmax(-1)[CLEAN] > 0.95:
            reached = calls
    return generator[0].softmax(-1), reached


@pytest.mark.parametrize("seed", range(3))
def test_a_critic_that_learns_leaves_no_flaw_and_a_fixed_one_moves_it(seed):
    both, reached = play(seed, torch.zeros(4, 3), trained=True)
    fixed, never = play(seed, torch.tensor([[9.0, 0.0, 0.0]] * 4), trained=False)
    _, guessing = play(seed, torch.zeros(4, 3), trained=False)
    assert both[CLEAN] > 0.95 and never is None
    assert fixed[CLEAN] < 0.05 and fixed[0] < 0.01 and fixed[1] + fixed[2] > 0.9
    assert reached < guessing, "it needs fewer calls of the validator than a critic that guesses"
