"""The reward stack: runs every reward on the rollouts it applies to, stores raw scores, and builds the (N,K) table.

A score is a number, a list with a number or None per span of the rollout, None (does not apply) or an error: a reward
that raises, returns NaN or the wrong number of scores stops the run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rlpost import spans
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
        """Scores (N,K), NaN where a reward does not apply; scores of spans count with their mean."""
        found = [[r.scores.get(name) for name in self.names] for r in rollouts]
        rows = [[math.nan if one is None or isinstance(one, list) else float(one) for one in row] for row in found]
        numbers = torch.tensor(rows, dtype=torch.float32).reshape(len(rollouts), len(self.names))
        return torch.where(torch.isnan(numbers), spans.span_mean(self.span_table(rollouts)), numbers)

    def span_table(self, rollouts: Sequence[Rollout]) -> spans.NSK:
        """Scores of spans (N,S,K), NaN behind a row's last span and for rewards that score rows; S is 0 without any."""
        return spans.table([[r.scores.get(name) for name in self.names] for r in rollouts], len(self.names))


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
    return [_checked(name, rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]


def _checked(name: str, rollout: Rollout, score: Any) -> float | list[float | None] | None:
    if isinstance(score, list | tuple):
        wanted = spans.count(rollout)
        if len(score) != wanted:
            raise RewardError(
                f"reward '{name}' returned {len(score)} scores for {wanted} spans on {_sample(rollout)}; one each is "
                "needed"
            )
        return [_plain(name, rollout, one) for one in score]
    return _plain(name, rollout, score)


def _plain(name: str, rollout: Rollout, score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, str) or not hasattr(score, "__float__") or math.prod(getattr(score, "shape", ())) != 1:
        raise RewardError(
            f"reward '{name}' returned {score!r} on {_sample(rollout)}; a number, a list with one per span, or None is "
            "needed"
        )
    if not math.isfinite(float(score)):
        raise RewardError(
            f"reward '{name}' returned {float(score)} on {_sample(rollout)}; return None where it does not apply"
        )
    return float(score)


def _culprit(reward: Reward, rollouts: Sequence[Rollout], known: Sequence[Any]) -> str:
    for rollout in rollouts:
        try:
            reward.score([rollout], *known)
        except Exception:  # the first rollout that fails alone is the one to name
            return _sample(rollout)
    return f"a batch of {len(rollouts)} rollouts (none fails alone), first {_sample(rollouts[0])}"


def _sample(rollout: Rollout) -> str:
    return f"task {rollout.task.id}, completion {rollout.text[:120]!r}"


def row_score(score: Any) -> float | None:
    """What a stored score says of its row: itself, or the mean over the spans that have one; None without any."""
    if not isinstance(score, list):
        return score
    known = [one for one in score if one is not None]
    return math.fsum(known) / len(known) if known else None


def _values(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, (list, tuple)) else [wanted]
