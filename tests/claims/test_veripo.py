"""veripo: pairs that a verifier finds make answers follow from their thoughts, which outcomes do not show."""

import random
import re

import pytest
import torch

from rlpost.build.verified import verified_pairs
from rlpost.preference.direct import dpo
from tests import toy
from tests.build.rows import said
from tests.claims.arms import answers, prefer

# Right from its thoughts, right in spite of them, wrong, wrong in spite of its thoughts.
TEXTS = [
    "<think>so 4</think><answer>4</answer>",
    "<think>so 5</think><answer>4</answer>",
    "<think>so 6</think><answer>6</answer>",
    "<think>so 4</think><answer>7</answer>",
]
RIGHT = torch.tensor([1.0, 1.0, 0.0, 0.0])
CONSISTENT = torch.tensor([1.0, 0.0, 1.0, 0.0])
PROMPTS = 12


class Judge:
    """Says what the thoughts lead to; one time in ten it says something else."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.tally = type("Tally", (), {"asked": 0, "unreadable": 0})()

    def judge(self, prompts, **_):
        found = [re.search(r"<thoughts (\w+)>\nso (\d)", prompt) for prompt in prompts]
        return [f"ANSWER {one[1]}: {'9' if self.rng.random() < 0.1 else one[2]}" for one in found]


def grpo(logits, steps, seed):
    policy = logits.float().clone()
    toy.train(policy, lambda p, tokens: RIGHT[tokens], toy.recipe("grpo"), steps=steps, lr=2.0, seed=seed)
    return policy.detach().double()


def rates(policy):
    """Accuracy, and the share of all answers that do not follow from their thoughts, by the truth."""
    p = policy.softmax(-1).float()
    return (p @ RIGHT).mean().item(), (p @ (1 - CONSISTENT)).mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_the_pairs_lower_inconsistency_at_equal_accuracy(seed):
    start = torch.randn(PROMPTS, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    trained = grpo(start, 30, seed)
    only = rates(grpo(trained, 30, seed + 100))
    rng = torch.Generator().manual_seed(seed)
    logged = [
        said(r.task, TEXTS[int(r.text)], group=r.group, correct=RIGHT[int(r.text)].item(), length=10 + int(r.text))
        for r in answers(trained, 8, rng, lambda p, a: 0.0, times=4)
    ]
    rows = verified_pairs(logged, {"judge": Judge(seed)}, stitch="")  # four texts are all that this policy can write
    for row in rows:
        row.columns.update({name: str(TEXTS.index(row.columns[name])) for name in ("chosen", "rejected")})
    policy = trained.clone()
    prefer(policy, trained, rows, dpo, lr=20.0, steps=60)
    looped = rates(policy)
    assert looped[1] < only[1] / 2
    assert looped[0] > only[0] - 0.02
