"""GAIN-RL: from familiar to unfamiliar prompts, as far as accuracy and angles allow."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.curriculum.order import Deck
from rlpost.errors import ConfigError, DataError
from rlpost.likelihood.angle import of_prompts
from rlpost.types import Outcome, Task

COLUMN = "angle"


class GainRl(Deck):
    """Draw each epoch around a rank that moves from concentrated prompts to scattered ones as the policy learns.

    Equation:
        rank tasks by their angle score, highest first (likelihood/angle.py: prompt_score)
        an epoch: `subset` distinct ranks i, likely as exp(-((i - mu) / sigma)^2 / 2), dealt in order of rank; mu_0 = 0
        after it: mu grows by clip(shift tanh(alpha (acc - beta)) + shift tanh(alpha ang), min_shift, max_shift)
        acc = mean reward / full_marks and ang = mean angle concentration, over the epoch's groups

    Reduces to:
        sampling without replacement, sorted by rank, when sigma is large; every task once per epoch where there are at
        most `subset`.

    Edge cases:
        The column `angle` of the data, if every task has it, takes the place of the forward pass over the prompts.
        Ranks, sigma and shifts are absolute numbers, made for some ten thousand prompts: with a few hundred the centre
        leaves the list after an epoch, and from there the last ranks are the likeliest. Only steps that have been
        observed when an epoch ends count for it; one that crosses the end counts for the next.

    Paper:
        Angles Don't Lie: Unlocking Training-Efficient RL Through the Model's Own Signals, arXiv 2506.02281.
        Assumed: its published code slices the rows of the score twice; meant are question by question and question by
        template. Template and suffix are what all prompts share at their ends. acc is the total reward over full_marks.
    """

    outcome_fields = ("angle",)

    def __init__(
        self,
        *,
        shift: float = 500.0,
        alpha: float = 2.0,
        beta: float = 0.5,
        min_shift: float = 0.0,
        max_shift: float = 1000.0,
        sigma: float = 1000.0,
        subset: int = 1024,
        template_weight: float = 8.0,
        full_marks: float = 1.0,
    ) -> None:
        super().__init__()
        if sigma <= 0 or subset < 1 or full_marks <= 0 or min_shift > max_shift:
            raise ConfigError(
                "curriculum gain_rl needs sigma > 0, subset >= 1, full_marks > 0 and min_shift <= max_shift; they are "
                f"{sigma}, {subset}, {full_marks}, {min_shift} and {max_shift}"
            )
        self.shift, self.alpha, self.beta, self.sigma = shift, alpha, beta, sigma
        self.min_shift, self.max_shift, self.subset = min_shift, max_shift, subset
        self.template_weight, self.full_marks = template_weight, full_marks
        self.ranking: list[int] = []
        self.centre = 0.0
        self.seen: list[float] = [0.0, 0.0, 0.0]  # groups, the sum of their accuracies, the sum of their angles

    def start(self, tasks: Sequence[Task]) -> None:
        """Rank the tasks by their column, or wait for `prepare`."""
        super().start(tasks)
        self.tasks, self.ranking, self.centre, self.seen = tasks, [], 0.0, [0.0, 0.0, 0.0]
        if all(COLUMN in task.columns for task in tasks):
            self.rank([float(task.columns[COLUMN]) for task in tasks])

    def prepare(self, model: Any, encoder: Any) -> None:
        """Rank the tasks by a forward pass over each prompt, unless their column did."""
        if not self.ranking:
            self.rank(of_prompts(model, encoder, self.tasks, template_weight=self.template_weight))

    def rank(self, scores: Sequence[float]) -> None:
        """Order the tasks by score, highest first; equal scores keep the order of the data."""
        self.ranking = sorted(range(len(scores)), key=lambda i: -scores[i])

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Take in the accuracies and angles of a step's groups."""
        for outcome in outcomes:
            if outcome.angle is None:
                raise DataError("curriculum gain_rl reads the angle concentration of rollouts, which this run lacks")
            self.seen = [
                self.seen[0] + 1, self.seen[1] + outcome.mean / self.full_marks, self.seen[2] + outcome.angle,
            ]  # fmt: skip

    def step_of_centre(self, accuracy: float, angle: float) -> float:
        """By how many ranks the centre moves after an epoch of this mean accuracy and angle."""
        pull = math.tanh(self.alpha * (accuracy - self.beta)) + math.tanh(self.alpha * angle)
        return min(max(self.shift * pull, self.min_shift), self.max_shift)

    def state_dict(self) -> dict[str, Any]:
        """The ranking, the centre, the rest of this epoch and what was seen of it."""
        return {
            **super().state_dict(), "ranking": list(self.ranking), "centre": self.centre, "seen": list(self.seen),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        super().load_state_dict(state)
        self.ranking, self.centre, self.seen = list(state["ranking"]), state["centre"], list(state["seen"])

    def _epoch(self, rng: random.Random) -> list[int]:
        if not self.ranking:
            raise DataError(
                "curriculum gain_rl has no order of the tasks: either the run reads the model's angles on their "
                "prompts (prepare), or every task has a column 'angle'"
            )
        groups, accuracy, angle = self.seen
        if groups:
            self.centre += self.step_of_centre(accuracy / groups, angle / groups)
            self.seen = [0.0, 0.0, 0.0]
        # The largest of log-weight + Gumbel noise are draws without replacement.
        keys = [
            -0.5 * ((i - self.centre) / self.sigma) ** 2 - math.log(max(rng.expovariate(1.0), 1e-300))
            for i in range(self.size)
        ]
        chosen = sorted(sorted(range(self.size), key=lambda i: -keys[i])[: self.subset])
        return [self.ranking[i] for i in chosen]
