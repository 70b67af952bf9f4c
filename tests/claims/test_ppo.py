"""ppo: with one completion of a prompt, a critic tells a good answer from an easy question."""

import re

import pytest
import torch

from tests import tabular

SYMBOLS, QUESTIONS = "abcd", 8
TASKS = [tabular.task(f"q{i}", SYMBOLS[i % 4]) for i in range(QUESTIONS)]


def state(question: str, text: str) -> int:
    return int(re.findall(r"q(\d)", question)[-1])


def right(rollout) -> float:
    """Question i is worth i whatever is answered, and 1 more for the right letter."""
    return float(rollout.task.id[1:]) + float(rollout.text == rollout.task.answer)


def reached(seed: int, lr_of_values: float) -> float:
    """Mean probability of the right letter after 150 steps of one completion of each question."""
    policy = tabular.Tabular(SYMBOLS, torch.zeros(QUESTIONS, 4), state, seed)
    knob = "rollout.max_tokens=1"
    values = tabular.Values(policy, "ppo", knob, lr=lr_of_values)
    tabular.train(policy, TASKS, "ppo", knob, right=right, steps=150, lr=4.0, seed=seed, values=values)
    table = policy.logits.detach().softmax(-1)
    return sum(float(table[i, i % 4]) for i in range(QUESTIONS)) / QUESTIONS


@pytest.mark.parametrize("seed", range(3))
def test_a_critic_takes_the_worth_of_the_question_off(seed):
    """Without values to learn (rate 0) the step's mean is the only baseline."""
    with_critic, without = reached(seed, 2.0), reached(seed, 0.0)
    assert with_critic > 0.95 and with_critic > without + 0.15, (with_critic, without)
