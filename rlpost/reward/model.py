"""A reward that a trained reward model gives."""

from collections.abc import Mapping, Sequence

from rlpost.errors import ConfigError
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout


def model_score(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "reward",
    mean: float = 0.0,
    std: float = 1.0,
    bias: float = 0.0,
) -> list[float]:
    """The score of a reward model for prompt and completion, on the model's own scale or standardised by given numbers.

    Equation:
        score = (s - mean) / std + bias, s the model's own score; weight * bias is what a paper adds after scaling

    Edge cases: media of a task are not shown to the model. Scores have no zero and no unit; only differences between
    completions of a prompt mean something.
    Paper: Training language models to follow instructions with human feedback, arXiv:2203.02155; standardised by given
    numbers in Fine-Grained RLHF, arXiv 2306.01693
    """
    if std <= 0:
        raise ConfigError(f"reward model_score: std={std} must be above 0")
    found = models[role].scalar([r.task.prompt for r in rollouts], [r.text for r in rollouts])
    return [(s - mean) / std + bias for s in found]
