"""rltf_fm: the policy learns to write the judge's critiques, beside learning from both turns."""

import pytest
import torch

from tests import tabular

SYMBOLS = "0123456789$"
ANSWERS = {"q0": "3", "q1": "8"}


class Teacher:
    """A judge whose critique is the right digit."""

    def judge(self, prompts, **how):
        return [next(digit for name, digit in ANSWERS.items() if name in asked) for asked in prompts]


def state(question: str, text: str) -> int:
    """A question, a question that is asked again after a critique, or one whose attempt is to be criticized."""
    if text:
        return 6
    number = next(i for i, name in enumerate(ANSWERS) if name in question)
    return number + (2 if "Use this critique" in question else 4 if "Write a critique" in question else 0)


def learnt(seed: int, *overrides: str) -> tuple[float, float]:
    """Mean probability of the judge's critique, and of the right digit in the second turn; both start at 0.1."""
    logits = torch.zeros(7, len(SYMBOLS))
    logits[:-1, -1], logits[-1, -1] = -20.0, 20.0
    policy = tabular.Tabular(SYMBOLS, logits, state, seed)
    tasks = [tabular.task(name, digit) for name, digit in ANSWERS.items()]
    how = {"right": lambda r: float(r.text == r.task.answer), "models": {"judge": Teacher()}, "seed": seed}
    knobs = ["rollout.max_tokens=2", "rollout.num_generations=4"]
    tabular.train(policy, tasks, "rltf_fm", *knobs, *overrides, steps=30, lr=40.0, **how)
    found = [
        sum(policy.probability(f"{name}{mark}", digit) for name, digit in ANSWERS.items()) / 2
        for mark in (" Write a critique", " Use this critique")
    ]
    return found[0], found[1]


@pytest.mark.parametrize("seed", range(3))
def test_critiques_are_learnt_where_the_turns_alone_teach_none(seed):
    critique, revision = learnt(seed)
    without, alone = learnt(seed, "regularizer.expert_nll.coef=0.0")
    assert critique > 0.6 and without == pytest.approx(0.1, abs=1e-6)
    assert revision == pytest.approx(alone, abs=1e-6) and revision > 0.2, "the turns learn as they do without"
