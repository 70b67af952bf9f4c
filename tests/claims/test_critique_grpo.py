"""critique_grpo: a refinement after a critique teaches where all plain completions fail."""

import pytest
import torch

from rlpost import rows, step
from rlpost.stack import Reward, RewardStack
from tests import tabular, toy

SYMBOLS = "abcdefghijklmnop$"
ANSWERS = {"q0": "c", "q1": "k", "q2": "p"}


def state(question: str, text: str) -> int:
    """A question and whether its answer is told; then the end."""
    if text:
        return 2 * len(ANSWERS)
    number = next(i for i, name in enumerate(ANSWERS) if name in question)
    return number + (len(ANSWERS) if "correct answer is" in question else 0)


def right(rollout) -> float:
    return float(rollout.text == rollout.task.answer)


def start() -> torch.Tensor:
    """An answer is found with 0.005 unaided, and with 0.9 where it is told; the two share no parameter."""
    logits = torch.full((2 * len(ANSWERS) + 1, len(SYMBOLS)), 0.0)
    logits[:-1, -1], logits[-1, -1] = -20.0, 20.0
    for i, answer in enumerate(ANSWERS.values()):
        logits[i, SYMBOLS.index(answer)] = torch.log(torch.tensor(15 * 0.005 / 0.995))
        logits[i + len(ANSWERS), SYMBOLS.index(answer)] = torch.log(torch.tensor(15 * 9.0))
    return logits


def reached(seed: int, name: str) -> float:
    """The mean probability of the answers without help."""
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    tasks = [tabular.task(name, answer) for name, answer in ANSWERS.items()]
    knobs = ["rollout.max_tokens=2", "rollout.num_generations=4"]
    tabular.train(policy, tasks, name, *knobs, right=right, steps=100, lr=20.0, seed=seed)
    return sum(policy.probability(q, answer) for q, answer in ANSWERS.items()) / len(ANSWERS)


@pytest.mark.parametrize("seed", range(3))
def test_answers_that_are_hardly_ever_found_are_learnt_sooner(seed):
    """dr_grpo is the same without refinements: mean-centred, constant divisor, as many rows."""
    assert reached(seed, "critique_grpo") > reached(seed, "dr_grpo") + 0.3


def test_the_refinement_gets_the_credit_of_the_group():
    """7 wrong completions and one right refinement: 7/8 and -1/8, where the group without it has none."""
    collect, method, sampling, n = tabular.collected("critique_grpo", "rollout.max_tokens=2")
    policy = tabular.Tabular(SYMBOLS, start(), state)
    stack = RewardStack({"right": Reward(lambda some: [float("correct answer is" in _asked(r)) for r in some])})
    ctx = tabular.context(policy, stack, sampling, n)
    rollouts = collect([tabular.task("q0", "c")], ctx)
    assert [r.scores["right"] for r in rollouts] == [0.0] * 7 + [1.0]
    credit = step.score(rows.scored(rollouts, stack), method).scored
    assert credit.advantage[:, 0].tolist() == [-0.125] * 7 + [0.875]
    assert toy.push("dr_grpo", [1] * 7, [0.0] * 7).eq(0).all()


def _asked(rollout) -> str:
    return " ".join(str(message["content"]) for message in rollout.task.prompt)
