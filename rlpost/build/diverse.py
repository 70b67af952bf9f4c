"""Completions that differ: a few of many, for a verifier that is dear or for a start that is to be wide."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.build.rows import demonstration, groups
from rlpost.errors import ConfigError
from rlpost.reward.elliptical import coreset, projected
from rlpost.types import Rollout, Task


def diverse(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    *,
    k: int = 3,
    role: str = "encoder",
    ridge: float = 0.01,
    width: int | None = None,
    seed: int = 0,
) -> list[Task]:
    """The `k` completions of each prompt whose hidden states span most, chosen one by one (RepExp at inference).

    Equation:
        L = I / ridge;  k times: i = argmax h_i' L h_i of those left;  L <- (L^-1 + h_i h_i')^-1
        h_i = P (mean over the completion's tokens of the frozen model's last hidden states), as in reward elliptical

    Edge cases:
        A prompt with fewer completions gives all of them; empty texts are left out. The states are not centred. The
        model reads the prompt and the text; media of a task are not shown to it.

    Paper:
        Representation-Based Exploration for Language Models, arXiv 2510.11686: selection of a coreset.
        Assumed: k 3, no projection (width null).
    """
    if k < 1 or ridge <= 0 or (width is not None and width < 1):
        raise ConfigError(f"build diverse: k={k} must be 1 or more, ridge={ridge:g} and width={width} above 0")
    found = []
    for group in groups(rollouts):
        rows = [one for one in group if one.text.strip()]
        if rows:
            states = models[role].hidden([one.task.prompt for one in rows], [one.text for one in rows]).double()
            found += [demonstration(rows[i]) for i in coreset(projected(states, width, seed=seed), k, ridge)]
    return found
