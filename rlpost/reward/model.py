"""A reward that a trained reward model gives."""

from collections.abc import Mapping, Sequence

from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout


def model_score(rollouts: Sequence[Rollout], models: Mapping[str, Scorer], *, role: str = "reward") -> list[float]:
    """The score of a reward model for prompt and completion, on the model's own scale.

    Edge cases: media of a task are not shown to the model. Scores have no zero and no unit; only differences between
    completions of a prompt mean something.
    Paper: Training language models to follow instructions with human feedback, arXiv:2203.02155
    """
    return models[role].scalar([r.task.prompt for r in rollouts], [r.text for r in rollouts])
