"""A reward model's score read as a preference: how likely the completion beats answers that are already there."""

import math
from collections.abc import Mapping, Sequence

from rlpost.errors import RewardError
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout, Task


def preference(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "reward",
    references: str = "",
    scale: float = 1.0,
) -> list[float]:
    """The chance, under a reward model, that the completion is preferred to the prompt's reference answers (PAR).

    Equation:
        R = (1/M) sum_m sigmoid(scale * (r - r_m)), r_m the score of reference answer m of the same prompt

    Reduces to:
        model_score up to a shift and the slope scale / 4 where scale is small; 1/2 for a completion that is its only
        reference.

    Edge cases:
        `references` names the column with the answers, a text or a list of texts; empty: the task's demonstration. A
        task without any stops the run. What is added to all scores of a prompt changes nothing. References are scored
        with every step: a scorer with a cache does it once. Media of a task are not shown to the model.

    Paper:
        Reward Shaping to Mitigate Reward Hacking in RLHF (PAR), arXiv 2502.18770: scale 1, 10 references, 1 is enough.
    """
    own = models[role].scalar([r.task.prompt for r in rollouts], [r.text for r in rollouts])
    tasks = {id(r.task): r.task for r in rollouts}
    answers = {key: _references(task, references) for key, task in tasks.items()}
    pairs = [(tasks[key].prompt, text) for key, texts in answers.items() for text in texts]
    scores = iter(models[role].scalar([prompt for prompt, _ in pairs], [text for _, text in pairs]))
    known = {key: [next(scores) for _ in texts] for key, texts in answers.items()}
    return [
        math.fsum(_sigmoid(scale * (score - other)) for other in known[id(r.task)]) / len(known[id(r.task)])
        for r, score in zip(rollouts, own, strict=True)
    ]


def _references(task: Task, column: str) -> list[str]:
    found = task.columns.get(column) if column else task.demonstration
    texts = [found] if isinstance(found, str) else list(found or [])
    if not texts or not all(isinstance(text, str) for text in texts):
        where = f"column {column!r}" if column else "demonstration"
        raise RewardError(
            f"reward preference needs reference answers, a text or a list of texts, and task {task.id} has none in its "
            f"{where}; name the column in reward.preference.references"
        )
    return texts


def _sigmoid(x: float) -> float:
    """Without overflow at either end."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
