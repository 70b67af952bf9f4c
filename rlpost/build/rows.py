"""What builds share: completions by group, their scores, and the rows that they become."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlpost.errors import ConfigError, DataError
from rlpost.stack import row_score
from rlpost.types import Rollout, Task


def groups(rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """The policy's completions by group, in order; rows of other roles (a contrast arm) are left out."""
    found: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.role == "policy":
            found.setdefault(rollout.group, []).append(rollout)
    return list(found.values())


def score(rollout: Rollout, name: str = "") -> float | None:
    """The score of a named reward, or the weighted total of all; None where it does not apply.

    Raises DataError where the run that sampled had no such reward.
    """
    if not name:
        return rollout.info["reward"]
    if name not in rollout.scores:
        raise DataError(f"build: the completions have no score {name!r}; they have {', '.join(rollout.scores)}")
    return row_score(rollout.scores[name])


def penalised(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    *,
    name: str,
    kl: float,
    policy_role: str | None,
    reference_role: str | None,
) -> list[float | None]:
    """`score - kl * (log policy - log reference)` of each completion; no model is asked where `kl` is 0."""
    plain = [score(rollout, name) for rollout in rollouts]
    if kl == 0:
        return plain
    if policy_role is None or reference_role is None:
        raise ConfigError("build.kl asks two models: set build.policy_role and build.reference_role")
    policy, reference = (summed(models[role], rollouts) for role in (policy_role, reference_role))
    return [None if one is None else one - kl * (p - r) for one, p, r in zip(plain, policy, reference, strict=True)]


def summed(scorer: Any, rollouts: Sequence[Rollout]) -> list[float]:
    """The log-probability of each completion under a second model, in nats, its stop token included."""
    return [sum(one) for one in scorer.logp([r.task.prompt for r in rollouts], [r.text for r in rollouts])]


def demonstration(rollout: Rollout) -> Task:
    """The completion as what its prompt is to be answered with."""
    return replace(rollout.task, demonstration=rollout.text)


def pair(chosen: Rollout, rejected: Rollout, **columns: Any) -> Task:
    """Two completions of a task as a preference; `columns` stand beside them."""
    texts = {"chosen": chosen.text, "rejected": rejected.text}
    return replace(chosen.task, columns={**chosen.task.columns, **texts, **columns})
