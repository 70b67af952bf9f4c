"""rl_tango: a verifier whose classes weigh alike learns of rare wrong solutions, which GRPO's does not."""

import pytest
import torch
from torch.distributions import Categorical

from rlpost import step
from tests import toy

NAMES = ("verdict_right", "verdict_form", "outcome")
N = 8


def recall(recipe: list[str], seed: int) -> tuple[float, float]:
    """Share of the wrong and of the right solutions that a verifier recognises after training.

    Nine solutions of ten are right. What it sees of one (row 0: it looks wrong, row 1: right) is true for 85 of 100.
    """
    method = toy.recipe(*recipe)
    torch.manual_seed(seed)
    logits = torch.zeros(2, 2, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(100):
        right = (torch.rand(32) < 0.9).long()
        seen = torch.where(torch.rand(32) < 0.85, right, 1 - right).repeat_interleave(N)
        outcome = right.repeat_interleave(N)
        tokens = Categorical(logits=logits.detach()[seen]).sample()[:, None]
        old = toy.logp_of(logits.detach(), seen, tokens)
        rewards = torch.stack([(tokens[:, 0] == outcome).float(), torch.ones(len(seen)), outcome.float()], dim=-1)
        record = toy.scored(
            rewards, torch.arange(32).repeat_interleave(N), torch.ones_like(tokens, dtype=torch.bool), old,
            weights=[1.0, 0.1, 0.0], tokens=tokens, reward_names=NAMES,
        )  # fmt: skip
        credit = step.score(record, method)
        for one in method.remembering.values():
            one.observe(credit.scored.rewards, NAMES)
        kept = toy.batch(credit.scored, toy.logp_of(logits, seen, tokens))
        optimizer.zero_grad()
        step.loss(kept, method, step.counts(credit.scored))[0].backward()
        optimizer.step()
    says_right = logits.detach().softmax(-1)[:, 1]
    wrong = 0.85 * (1 - says_right[0]) + 0.15 * (1 - says_right[1])
    return float(wrong), float(0.85 * says_right[1] + 0.15 * says_right[0])


@pytest.mark.parametrize("seed", range(3))
def test_rare_wrong_solutions_are_heard(seed):
    """Of what looks wrong 61% is right, so GRPO learns to call everything right. Weights of 5/6 and 5/2 turn that."""
    grpo = recall(["rl_tango_verifier", "advantage=group_zscore"], seed)
    tango = recall(["rl_tango_verifier"], seed)
    assert grpo[0] < 0.1 and grpo[1] > 0.95
    assert tango[0] > 0.75 and tango[1] > 0.8
