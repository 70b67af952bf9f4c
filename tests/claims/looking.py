"""A bandit of two turns: name a cell, be told the digit in it, say the digit, which can only be guessed else."""

from dataclasses import dataclass, field

import torch

from rlpost.environment.protocol import Observation
from tests import tabular

CELLS, DIGITS = "abc", "012"
SYMBOLS = CELLS + DIGITS + "$"
END = len(CELLS) + len(DIGITS)
# The cell is asked for, the digit in it is not in the question: 9 tasks, 3 questions.
TASKS = [tabular.task(f"find {cell}", digit) for cell in CELLS for digit in DIGITS]
LOOKS = "rollout.environment={_target_: tests.claims.looking.Cells}"


class Cells:
    """Shows what is in a cell: the task's answer in the one that is asked for, the next digits in the others."""

    tools = ()

    def reset(self, task, encoder):
        return Looking(task)


@dataclass
class Looking:
    task: object
    info: dict = field(default_factory=dict)
    looked: bool = False

    def step(self, said: str, stop: str) -> Observation:
        if self.looked:
            return Observation()
        self.looked = True
        away = CELLS.find(said) - CELLS.index(self.task.prompt[0]["content"][-1]) if said in CELLS else 1
        shown = DIGITS[(DIGITS.index(self.task.answer) + away) % len(DIGITS)]
        return Observation([{"role": "user", "content": f"shows {shown}"}])

    def finish(self) -> None:
        """Nothing is held."""


def state(question: str, text: str) -> int:
    """The cell that is asked for, or the digit that was shown; once something is said, the end."""
    before, _, said = (question + tabular.TURN + text).rpartition(tabular.TURN)
    if said:
        return END
    shown = before.rpartition("shows ")[2][:1]
    cell = before.partition("find ")[2][:1]
    return len(CELLS) + DIGITS.index(shown) if "shows " in before else CELLS.index(cell)


def start() -> torch.Tensor:
    """Anything may be said, and then the turn ends."""
    logits = torch.zeros(END + 1, len(SYMBOLS))
    logits[:-1, -1], logits[-1, -1] = -20.0, 20.0
    return logits


def right(rollout) -> float:
    return float(rollout.text == rollout.task.answer)


def success(recipe: str, *overrides: str, seed: int, steps: int, lr: float) -> float:
    """The share of right answers in the last three steps."""
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    knobs = [LOOKS, "rollout.max_tokens=2", "rollout.num_generations=8", *overrides]
    history = tabular.train(policy, TASKS, recipe, *knobs, right=right, steps=steps, lr=lr, seed=seed)
    rows = [row for rollouts in history[-3:] for row in rollouts if row.role == "policy"]
    return sum(map(right, rows)) / len(rows)
