"""The seam of the `replay` axis: a buffer of rows with their credit, mixed into the rows of a step before it is dealt.

A plan, the pick of `replay=<name>`, decides from tables alone and has no state:

    pick(fresh: Scored, stored: Scored, rng) -> (rows of fresh, rows of stored) that train now, repeats allowed
    hold(fresh: Scored, stored: Scored) -> (rows of fresh, rows of stored) that the buffer has from now on

Both tables hold all fields that scoring knows, of all ranks: advantage, reward, age, group, role, and so on. What this
module adds for every plan: prompts with their media stay with the rank that wrote them; a stored row keeps advantage,
rewards, `old_logp` and `old_entropy` of its own step, so that its ratio is off-policy; its age grows; tokens of source
"policy" become "replay" where they train again; groups of different steps stay apart; the buffer stands in the
checkpoint. Counts are those of the mixed rows; metrics, curricula and rewards see the step's own rows only.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from rlpost.rows import MicroBatch
from rlpost.step import Credit, counts, take
from rlpost.trainers import records
from rlpost.types import Rollout, Scored

# What stands behind a row's own tokens, spans or members; 0 elsewhere.
FILL = {"span": -1, "span_rewards": torch.nan, "pair_rewards": torch.nan}


class Pool(NamedTuple):
    """Rows of all ranks with their credit: the rank of each, and its rollout (without prompt where it is another's)."""

    scored: Scored
    rank_of: list[int]
    rollouts: list[Rollout]

    def take(self, index: Sequence[int]) -> "Pool":
        """The rows of these numbers in their order, repeats included."""
        scored = take(self.scored, torch.tensor(list(index), dtype=torch.long))
        return Pool(scored, [self.rank_of[i] for i in index], [self.rollouts[i] for i in index])


def pool(credit: Credit, everyone: Sequence[Sequence[Rollout]], rank: int, mine: Sequence[Rollout]) -> Pool:
    """The rows that stay, from the light rollouts of each rank and this rank's own."""
    rollouts = [r for part in [*everyone[:rank], mine, *everyone[rank + 1 :]] for r in part]
    rank_of = [i for i, part in enumerate(everyone) for _ in part]
    kept = credit.keep.nonzero()[:, 0].tolist()
    return Pool(credit.scored, [rank_of[i] for i in kept], [rollouts[i] for i in kept])


class Plan(Protocol):
    """What `replay=<name>` builds."""

    def pick(self, fresh: Scored, stored: Scored, rng: random.Random) -> tuple[list[int], list[int]]:
        """Rows that train now."""
        ...

    def hold(self, fresh: Scored, stored: Scored) -> tuple[list[int], list[int]]:
        """Rows that the buffer has from now on."""
        ...


class Replay:
    """The buffer of a run. Every rank holds the tables of all rows and makes the same picks."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.stored: Pool | None = None
        self.at = 0

    def mix(self, fresh: Pool, number: int, rng: random.Random) -> tuple[Pool, float]:
        """The rows that train in this step, and the share of them that are replayed; the buffer moves on."""
        stored = fresh.take([]) if self.stored is None else self.stored
        stored = stored._replace(scored=replace(stored.scored, age=stored.scored.age + (number - self.at)))
        own, earlier = self.plan.pick(fresh.scored, stored.scored, rng)
        new, old = self.plan.hold(fresh.scored, stored.scored)
        again = stored.take(earlier)
        source = tuple(tuple("replay" if s == "policy" else s for s in row) for row in again.scored.source)
        again = again._replace(scored=replace(again.scored, source=source))
        self.stored, self.at = beside(stored.take(old), fresh.take(new)), number
        return beside(fresh.take(own), again), len(earlier) / max(1, len(own) + len(earlier))

    def state_dict(self) -> dict[str, Any]:
        """The buffer as tensors and plain data."""
        if self.stored is None:
            return {}
        item = MicroBatch(self.stored.rollouts, self.stored.scored, counts(self.stored.scored))
        return {"at": self.at, "rank_of": list(self.stored.rank_of), "rows": records.pack(item)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.stored, self.at = None, 0
        if state:
            item = records.unpack(state["rows"])
            self.stored, self.at = Pool(item.scored, list(state["rank_of"]), item.rollouts), state["at"]


def beside(one: Pool, other: Pool) -> Pool:
    """The rows of both, as wide as the wider; groups of the second are numbered behind those of the first."""
    behind = int(one.scored.group.max()) + 1 if len(one.scored.group) else 0
    shifted = replace(other.scored, group=other.scored.group + behind)
    joined = {spec.name: _joined(spec.name, one.scored, shifted) for spec in fields(Scored)}
    return Pool(Scored(**joined), one.rank_of + other.rank_of, one.rollouts + other.rollouts)


def _joined(name: str, one: Scored, other: Scored) -> Any:
    a, b = getattr(one, name), getattr(other, name)
    if name in ("weights", "reward_names"):
        return a
    if name == "keep" or a is None or b is None:
        return None
    if isinstance(a, tuple):
        return a + b
    widths = [max(x, y) for x, y in zip(a.shape[1:], b.shape[1:], strict=True)]
    return torch.cat([_wide(x, widths, FILL.get(name, 0)) for x in (a, b)])


def _wide(table: Tensor, widths: Sequence[int], fill: float) -> Tensor:
    missing = [(0, wanted - there) for wanted, there in zip(widths, table.shape[1:], strict=True)]
    return pad(table, [side for pair in reversed(missing) for side in pair], value=fill)
