"""outcome_exploration: prompts whose right answer is rare are found and learned more often than with GRPO."""

import pytest
import torch

from rlpost.reward.novelty import AnswerUcb
from rlpost.types import Prompt, Rollout, Task
from tests import toy

PROMPTS, ANSWERS, RARE = 20, 20, 0.002


def solved(name, seed, *overrides, steps=100, lr=40.0):
    """Prompts of which the right answer, number 0 of 20, has more than half of the policy after training.

    At the start it has 0.002, and a few of the wrong ones have most of the rest.
    """
    rng = torch.Generator().manual_seed(100 + seed)
    p = (2.0 * torch.randn(PROMPTS, ANSWERS, generator=rng)).exp()
    p[:, 1:] *= (1 - RARE) / p[:, 1:].sum(-1, keepdim=True)
    p[:, 0] = RARE
    logits, ucb = p.log(), AnswerUcb()
    method = toy.recipe(name, *overrides)

    def reward(prompt, tokens):
        rows = [row(int(x), int(a)) for x, a in zip(prompt, tokens[:, 0], strict=True)]
        columns = [(tokens[:, 0] == 0).float()]
        if name == "outcome_exploration":
            columns.append(torch.tensor(ucb(rows)))
            ucb.observe(rows)
        return torch.stack(columns, dim=1)

    toy.train(logits, reward, method, steps=steps, lr=lr, seed=seed, n=8)
    return int((logits.softmax(-1)[:, 0] > 0.5).sum())


def row(prompt, answer):
    task = Task(f"t{prompt}", (), answer="0")
    return Rollout(task, f"{prompt}", Prompt([]), [answer], [True], [0.0], str(answer), "eos")


@pytest.mark.parametrize("seed", range(3))
def test_more_prompts_are_solved_than_with_grpo(seed):
    explored = solved("outcome_exploration", seed, "advantage.coef=0.2", "advantage.columns=[r1]")
    plain = solved("grpo", seed)
    assert explored >= plain + 2, (explored, plain)
