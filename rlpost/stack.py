"""The reward stack: runs every reward on the rollouts it applies to, stores raw scores, and builds the (N,K) table.

A score is a number, a list with a number or None per span of the rollout, None (does not apply) or an error: a reward
that raises, returns NaN or the wrong number of scores stops the run.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float

from rlpost import ledger, spans
from rlpost.errors import RewardError, RlpostError
from rlpost.fields import reads
from rlpost.lift import group_rows, is_pairwise
from rlpost.now import described, now
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

    def observe(self, rollouts: Sequence[Rollout]) -> None:
        """Show the rollouts of a whole step, of all ranks, to the rewards that remember (those with `observe`)."""
        for name, remembers in self._remembering().items():
            remembers.observe([r for r in rollouts if self.rewards[name].applies(r)])

    def state_dict(self) -> dict[str, Any]:
        """What the rewards that remember would forget in a restart."""
        return {name: remembers.state_dict() for name, remembers in self._remembering().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; a reward that it does not hold starts anew."""
        for name, remembers in self._remembering().items():
            if name in state:
                remembers.load_state_dict(state[name])

    def _remembering(self) -> dict[str, Any]:
        return {name: reward.score for name, reward in self.rewards.items() if hasattr(reward.score, "observe")}

    def table(self, rollouts: Sequence[Rollout]) -> NK:
        """Scores (N,K), NaN where a reward does not apply; of a list (spans, members of the group) the mean."""
        rows = [[_number(r.scores.get(name)) for name in self.names] for r in rollouts]
        numbers = torch.tensor(rows, dtype=torch.float32).reshape(len(rollouts), len(self.names))
        pairs = self._means_of_pairs(rollouts)
        found = torch.where(torch.isnan(numbers), spans.span_mean(self.span_table(rollouts)), numbers)
        return torch.where(torch.isnan(pairs), found, pairs)

    def span_table(self, rollouts: Sequence[Rollout]) -> spans.NSK:
        """Scores of spans (N,S,K), NaN behind a row's last span and for rewards that score rows; S is 0 without any."""
        compares = self._pairwise()
        found = [[None if name in compares else r.scores.get(name) for name in self.names] for r in rollouts]
        return spans.table(found, len(self.names))

    def scores_spans(self, rollout: Rollout) -> bool:
        """Whether a reward gave this rollout scores of spans, so that one without marks counts as one span."""
        compares = self._pairwise()
        return any(isinstance(score, list) and name not in compares for name, score in rollout.scores.items())

    def _pairwise(self) -> set[str]:
        return {name for name, reward in self.rewards.items() if is_pairwise(reward.score)}

    def _means_of_pairs(self, rollouts: Sequence[Rollout]) -> NK:
        compares = [name in self._pairwise() for name in self.names]
        rows = [
            [_mean(r.scores.get(name)) if pairs else math.nan for name, pairs in zip(self.names, compares, strict=True)]
            for r in rollouts
        ]
        return torch.tensor(rows, dtype=torch.float32).reshape(len(rollouts), len(self.names))

    def pairs(self, rollouts: Sequence[Rollout]) -> Float[torch.Tensor, "N G"] | None:
        """Scores of each row against each member of its group, summed over the pairwise rewards with their weights.

        G is the largest group; NaN fills smaller ones, and rows to which no pairwise reward applies. None without a
        pairwise reward.
        """
        found = {name: float(value(r.weight, 0, 0.0)) for name, r in self.rewards.items() if is_pairwise(r.score)}
        if not found:
            return None
        width = max((len(r.scores[name]) for r in rollouts for name in found if r.scores.get(name)), default=0)
        table = torch.full((len(rollouts), width), math.nan)
        for row, rollout in enumerate(rollouts):
            for name, weight in found.items():
                scores = rollout.scores.get(name)
                if scores is not None:
                    add = weight * torch.tensor(scores, dtype=torch.float32)
                    table[row, : len(scores)] = torch.nan_to_num(table[row, : len(scores)], nan=0.0) + add
        return table


def _run(name: str, reward: Reward, rollouts: Sequence[Rollout], extra: Mapping[str, Any]) -> list[Any]:
    if not rollouts:
        return []
    known = [extra[field] for field in reads(reward.score)[1:]]
    try:
        with now.scoring(name, rollouts):
            scores = list(reward.score(rollouts, *known))
    except RlpostError:
        raise
    except Exception as error:
        culprit = _culprit(reward, rollouts, known)
        ledger.current().fail(f"reward '{name}' raised {type(error).__name__}", culprit)
        raise RewardError(f"reward '{name}' raised {type(error).__name__}: {error} on {culprit}") from error
    try:
        return _usable(name, reward, rollouts, scores)
    except RewardError as error:
        ledger.current().fail(f"reward '{name}' returned what is no score", str(error))
        raise


def _usable(name: str, reward: Reward, rollouts: Sequence[Rollout], scores: list[Any]) -> list[Any]:
    """The scores in the form that the stack holds them. Raises RewardError where there is no such form."""
    if len(scores) != len(rollouts):
        raise RewardError(
            f"reward '{name}' returned {len(scores)} scores for {len(rollouts)} rollouts; one each is needed, "
            f"first on {described(rollouts[0])}"
        )
    if is_pairwise(reward.score):
        return _pairwise(name, rollouts, scores)
    return [_checked(name, rollout, score) for rollout, score in zip(rollouts, scores, strict=True)]


def _pairwise(name: str, rollouts: Sequence[Rollout], scores: Sequence[Any]) -> list[list[float] | None]:
    """The lists of a pairwise reward, each with a number against every member of its group."""
    size = {i: len(rows) for rows in group_rows(rollouts).values() for i in rows}
    found: list[list[float] | None] = []
    for i, (rollout, score) in enumerate(zip(rollouts, scores, strict=True)):
        if score is not None and not isinstance(score, (list, tuple)):
            raise RewardError(
                f"reward '{name}' returned {score!r} for {described(rollout)}; it compares, so a list is needed"
            )
        numbers = None if score is None else list(score)
        if numbers is not None and len(numbers) != size[i]:
            raise RewardError(
                f"reward '{name}' compares within groups and returned {len(numbers)} scores for {described(rollout)}, "
                f"whose group has {size[i]} members; one against each is needed, itself included"
            )
        for number in numbers or ():
            if number is None:
                raise RewardError(
                    f"reward '{name}' returned None against a member of the group, on {described(rollout)}"
                )
            _plain(name, rollout, number)
        found.append(None if numbers is None else [float(number) for number in numbers])
    return found


def _checked(name: str, rollout: Rollout, score: Any) -> float | list[float | None] | None:
    if isinstance(score, list | tuple):
        wanted = spans.count(rollout)
        if len(score) != wanted:
            raise RewardError(
                f"reward '{name}' returned {len(score)} scores for {wanted} spans on {described(rollout)}; one each is "
                "needed"
            )
        return [_plain(name, rollout, one) for one in score]
    return _plain(name, rollout, score)


def _plain(name: str, rollout: Rollout, score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, str) or not hasattr(score, "__float__") or math.prod(getattr(score, "shape", ())) != 1:
        raise RewardError(
            f"reward '{name}' returned {score!r} on {described(rollout)}; a number, a list with one per span, or None "
            "is needed"
        )
    if not math.isfinite(float(score)):
        raise RewardError(
            f"reward '{name}' returned {float(score)} on {described(rollout)}; return None where it does not apply"
        )
    return float(score)


def _culprit(reward: Reward, rollouts: Sequence[Rollout], known: Sequence[Any]) -> str:
    for rollout in rollouts:
        try:
            reward.score([rollout], *known)
        except Exception:  # the first rollout that fails alone is the one to name
            return described(rollout)
    return f"a batch of {len(rollouts)} rollouts (none fails alone), first {described(rollouts[0])}"


def row_score(score: Any) -> float | None:
    """What a stored score says of its row: itself, or the mean over the spans that have one; None without any."""
    if not isinstance(score, list):
        return score
    known = [one for one in score if one is not None]
    return math.fsum(known) / len(known) if known else None


def _number(score: Any) -> float:
    return math.nan if score is None or isinstance(score, list) else float(score)


def _mean(scores: Any) -> float:
    return math.fsum(scores) / len(scores) if isinstance(scores, list) and scores else math.nan


def _values(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, (list, tuple)) else [wanted]
