"""The reward stack: runs every reward on the rollouts it applies to, stores raw scores, and builds the (N,K) table.

A score is a number, None (does not apply) or an error: a reward that raises, returns NaN or the wrong number of scores
stops the run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rlpost.errors import RewardError, RlpostError
from rlpost.fields import reads
from rlpost.schedule import bind, value
from rlpost.types import NK, Rollout


@dataclass(frozen=True)
class Reward:
    """One reward of the stack. `when` maps a dataset column to the value, or values, for which the reward applies."""

    score: Callable[..., Sequence[Any]]
    weight: float | Callable[[int, float], float] = 1.0
    when: Mapping[str, Any] = field(default_factory=dict)

    def applies(self, rollout: Rollout) -> bool:
        """Whether the rollout's task has one of the wanted values in every routed column."""
        return all(rollout.task.columns.get(column) in _values(wanted) for column, wanted in self.when.items())


@dataclass(frozen=True)
class RewardStack:
    """Named rewards in the order of the configuration."""

    rewards: Mapping[str, Reward]
    models: Mapping[str, Any] = field(default_factory=dict)  # second models by role, for rewards that name `models`

    @property
    def names(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(self.rewards)

    @property
    def weights(self) -> torch.Tensor:
        """Column weights (K,)."""
        return torch.tensor([float(value(r.weight, 0, 0.0)) for r in self.rewards.values()], dtype=torch.float32)

    def at(self, step: int, progress: float) -> "RewardStack":
        """The stack with scheduled weights and knobs replaced by their numbers of now."""
        now = {
            name: replace(r, score=bind(r.score, step, progress), weight=value(r.weight, step, progress))
            for name, r in self.rewards.items()
        }
        return RewardStack(now, self.models)

    def score(self, rollouts: Sequence[Rollout], extra: Mapping[str, Any] | None = None) -> None:
        """Fill `rollout.scores` for every reward that has not scored the rollout yet.

        Raises RewardError naming the reward and the sample.
        """
        for name, reward in self.rewards.items():
            todo = [r for r in rollouts if name not in r.scores]
            fit = [r for r in todo if reward.applies(r)]
            for rollout in todo:
                rollout.scores[name] = None
            for rollout, score in zip(
                fit, _run(name, reward, fit, {"models": self.models, **(extra or {})}), strict=True
            ):
                rollout.scores[name] = score

    def table(self, rollouts: Sequence[Rollout]) -> NK:
        """Scores (N,K), NaN where a reward does not apply."""
        rows = [[_number(r.scores.get(name)) for name in self.names] for r in rollouts]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(rollouts), len(self.names))


def _run(name: str, reward: Reward, rollouts: Sequence[Rollout], extra: Mapping[str, Any]) -> list[Any]:
    if not rollouts:
        return []
    known = [extra[field] for field in reads(reward.score)[1:]]
    try:
        scores = list(reward.score(rollouts, *known))
    except RlpostError:
        raise
    except Exception as error:
        culprit = _culprit(reward, rollouts, known)
        raise RewardError(f"reward '{name}' raised {type(error).__name__}: {error} on {culprit}") from error
    if len(scores) != len(rollouts):
        raise RewardError(
            f"reward '{name}' returned {len(scores)} scores for {len(rollouts)} rollouts; one each is needed, "
            f"first on {_sample(rollouts[0])}"
        )
    for rollout, score in zip(rollouts, scores, strict=True):
        _checked(name, rollout, score)
    return [None if score is None else float(score) for score in scores]


def _checked(name: str, rollout: Rollout, score: Any) -> None:
    if score is None:
        return
    if isinstance(score, str) or not hasattr(score, "__float__") or math.prod(getattr(score, "shape", ())) != 1:
        raise RewardError(f"reward '{name}' returned {score!r} on {_sample(rollout)}; a number or None is needed")
    if not math.isfinite(float(score)):
        raise RewardError(
            f"reward '{name}' returned {float(score)} on {_sample(rollout)}; return None where it does not apply"
        )


def _culprit(reward: Reward, rollouts: Sequence[Rollout], known: Sequence[Any]) -> str:
    for rollout in rollouts:
        try:
            reward.score([rollout], *known)
        except Exception:  # the first rollout that fails alone is the one to name
            return _sample(rollout)
    return f"a batch of {len(rollouts)} rollouts (none fails alone), first {_sample(rollouts[0])}"


def _sample(rollout: Rollout) -> str:
    return f"task {rollout.task.id}, completion {rollout.text[:120]!r}"


def _number(score: Any) -> float:
    return math.nan if score is None else float(score)


def _values(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, (list, tuple)) else [wanted]
