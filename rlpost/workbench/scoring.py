"""Ask a reward stack as training does, one reward at a time under a clock, and count what has no score by its cause."""

import math
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rlpost import ledger
from rlpost.errors import RewardError
from rlpost.fields import reads
from rlpost.lift import group_rows, is_by_rollout
from rlpost.stack import Reward, RewardStack
from rlpost.step import total_reward
from rlpost.types import Rollout
from rlpost.workbench.texts import Batch, Marker

ROUTED = "not asked: `when` routes other rows to it"
SILENT = "the reward gave None: it does not apply"


@dataclass
class Asked:
    """What asking one reward took: seconds and completions of each call, and the rows without a score by cause.

    `places` names the first sample of each cause; `errors` are the causes that would stop a run.
    """

    seconds: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    errors: set[str] = field(default_factory=set)

    def miss(self, cause: str, count: int, place: str = "") -> None:
        """Count rows without a score."""
        if count:
            self.missing[cause] = self.missing.get(cause, 0) + count
            self.places.setdefault(cause, place)

    def latency(self) -> dict[str, float | int | None]:
        """Seconds: of the first call, which may load things; p50 and p99 of the others; in all; per completion.

        p50 and p99 interpolate linearly between calls; where there is one call only they are its own. A reward that
        looks at each completion alone is called once per completion.
        """
        if not self.seconds:
            return dict.fromkeys(("calls", "per_call", "first", "p50", "p99", "total", "per_completion"))
        later = self.seconds[1:] or self.seconds
        sizes = self.sizes[1:] or self.sizes
        p50, p99 = np.quantile(later, [0.5, 0.99])
        return {
            "calls": len(self.seconds),
            "per_call": sum(self.sizes) / len(self.sizes),
            "first": self.seconds[0],
            "p50": float(p50),
            "p99": float(p99),
            "total": math.fsum(self.seconds),
            "per_completion": math.fsum(later) / max(1, sum(sizes)),
        }


@dataclass
class Scores:
    """What a stack says: scores (N,K) with NaN where there is none, and the weighted total (N), NaN without any."""

    names: tuple[str, ...]
    weights: tuple[float, ...]
    table: np.ndarray
    total: np.ndarray
    rollouts: list[Rollout]
    asked: dict[str, Asked]
    spans: bool = False
    taken: frozenset[str] = frozenset()  # rewards whose scores are another stack's

    def columns(self) -> dict[str, np.ndarray]:
        """Every reward's column, and the total where there are several."""
        found = {name: self.table[:, k] for k, name in enumerate(self.names)}
        return found if len(found) == 1 else {**found, "total": self.total}


def score(
    stack: RewardStack,
    batches: Sequence[Batch],
    marker: Marker,
    *,
    seed: int = 0,
    known: Mapping[str, Scores] = {},
    observe: bool = True,
) -> Scores:
    """Score the batches in order; with `observe`, rewards that remember see each batch afterwards, as in training.

    `known` names rewards whose scores another stack has for the same texts: they are taken and not asked again. A
    reward that raises is counted with its cause and its rows stay without its score.
    """
    asked = {name: known[name].asked[name] if name in known else Asked() for name in stack.names}
    rng, rows, tables, totals = random.Random(seed), [], [], []
    weights = stack.at(0, 0.0).weights
    for batch in batches:
        now = stack.at(batch.step, batch.progress)
        own = marker.rows(batch.texts)
        extra = {"rng": rng, "step": batch.step, "progress": batch.progress}
        for name, reward in now.rewards.items():
            if name in known:
                for i, row in enumerate(own, start=len(rows)):
                    row.scores[name] = known[name].rollouts[i].scores.get(name)
            else:
                ask(name, reward, RewardStack({name: reward}, now.models), own, extra, asked[name])
        if observe:
            now.observe(own)
        table, weights = now.table(own), now.weights
        silent = torch.isnan(table).all(-1)
        tables.append(table)
        totals.append(torch.where(silent, torch.nan, total_reward(table, weights)))
        rows += own
    return Scores(
        names=stack.names,
        weights=tuple(round(w, 6) for w in weights.tolist()),
        table=torch.cat(tables).double().numpy(),
        total=torch.cat(totals).double().numpy(),
        rollouts=rows,
        asked=asked,
        spans=any(stack.scores_spans(row) for row in rows),
        taken=frozenset(known),
    )


def recorded(stack: RewardStack, batches: Sequence[Batch], marker: Marker) -> Scores:
    """The scores that the run wrote down for its completions, under the weights that it had."""
    rows, tables, totals, weights = [], [], [], stack.at(0, 0.0).weights
    for batch in batches:
        own = marker.rows(batch.texts)
        for row, text in zip(own, batch.texts, strict=True):
            row.scores = {name: (text.recorded or {}).get(name) for name in stack.names}
        weights = stack.at(batch.step, batch.progress).weights
        table = stack.table(own)
        tables.append(table)
        totals.append(torch.where(torch.isnan(table).all(-1), torch.nan, total_reward(table, weights)))
        rows += own
    asked = {name: Asked() for name in stack.names}
    for k, name in enumerate(stack.names):
        asked[name].miss("no score was written down", int(torch.isnan(torch.cat(tables)[:, k]).sum()))
    return Scores(
        stack.names,
        tuple(round(w, 6) for w in weights.tolist()),
        torch.cat(tables).double().numpy(),
        torch.cat(totals).double().numpy(),
        rows,
        asked,
    )


def ask(
    name: str, reward: Reward, alone: RewardStack, rows: Sequence[Rollout], extra: Mapping[str, Any], asked: Asked
) -> None:
    """Fill `rollout.scores[name]` of all rows: completions one by one where the reward looks at each alone."""
    fit = [row for row in rows if reward.applies(row)]
    for row in rows:
        if not reward.applies(row):
            row.scores[name] = None
    asked.miss(ROUTED, len(rows) - len(fit))
    calls = [[row] for row in fit] if is_by_rollout(reward.score) else [fit] if fit else []
    for call in calls:
        if not _call(name, alone, call, extra, asked, last=len(group_rows(call)) == 1):
            for group in group_rows(call).values():  # so that a bad row costs its group, not the whole step
                _call(name, alone, [call[i] for i in group], extra, asked, last=True)


def _call(
    name: str, alone: RewardStack, rows: Sequence[Rollout], extra: Mapping[str, Any], asked: Asked, *, last: bool
) -> bool:
    """One call under the clock; whether it is settled. An error of a call that is not the `last` try is not counted."""
    for row in rows:
        row.scores.pop(name, None)
    before, start = ledger.current().copy(), time.perf_counter()
    try:
        alone.score(rows, extra)
    except RewardError as error:
        if not last:
            return False
        cause = _cause(name, str(error))
        asked.miss(cause, len(rows), str(error))
        asked.errors.add(cause)
        for row in rows:
            row.scores[name] = None
        return True
    asked.seconds.append(time.perf_counter() - start)
    asked.sizes.append(len(rows))
    _count_silence(name, rows, ledger.current().since(before)["entries"], asked)
    return True


def _count_silence(name: str, rows: Sequence[Rollout], noted: Sequence[Mapping[str, Any]], asked: Asked) -> None:
    """Rows without a score, by what the ledger was told meanwhile; what it was not told of is a plain None."""
    silent = [row for row in rows if _nothing(row.scores[name])]
    left = len(silent)
    for entry in noted:
        if entry["kind"] == "fail":
            count = min(left, entry["count"])
            asked.miss(entry["cause"], count, entry["where"][0] if entry["where"] else "")
            left -= count
    asked.miss(SILENT, left, f"task {silent[-1].task.id}, completion {silent[-1].text[:80]!r}" if silent else "")


def _nothing(score: Any) -> bool:
    return score is None or (isinstance(score, list) and all(one is None for one in score))


def _cause(name: str, sentence: str) -> str:
    """The error without the sample, so that equal faults are counted together."""
    return re.split(r" on (?:task|a batch of) | for task ", sentence)[0].removeprefix(f"reward '{name}' ")


def shared(mine: RewardStack, other: RewardStack, trees: tuple[Mapping[str, Any], Mapping[str, Any]]) -> set[str]:
    """Rewards that two stacks configure alike but for their weight, so that both give the same scores."""
    first, second = ((tree.get("reward") or {}) for tree in trees)
    models = (trees[0].get("models") or {}) == (trees[1].get("models") or {})
    found = set()
    for name in set(mine.names) & set(other.names):
        reward = mine.rewards[name].score
        if hasattr(reward, "observe") or ("models" in reads(reward) and not models):
            continue
        if {**first[name], "weight": None} == {**second[name], "weight": None}:
            found.add(name)
    return found
