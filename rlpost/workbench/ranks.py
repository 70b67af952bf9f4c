"""How two stacks order the same completions: rank flips, correlations in groups, best completions, groups in silence.

A tie is a difference of at most `TIE`. Pairs are those of two rows of one group that have a total under both stacks.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

TIE = 1e-6  # scores are float32, and totals are their weighted sums


@dataclass(frozen=True)
class Flip:
    """Two rows of a group that the stacks order the other way round, with the first stack's favourite as `up`.

    `size` is the smaller of both differences, each in standard deviations of its stack's totals over all rows.
    """

    group: str
    up: int
    down: int
    size: float


@dataclass
class Agreement:
    """Pairs by how both stacks order them, and the means over groups of what is defined there.

    pairs = alike + flipped + tied_first + tied_second + tied_both; `tied_first` are tied under the first stack alone.
    `spearman` and `kendall` (tau-b) are means over the `correlated` groups, in which neither stack ties all rows.
    `best_changes` of `groups`: no row is best under both. `silent`: groups that tie all rows, by stack.
    """

    groups: int = 0
    pairs: int = 0
    alike: int = 0
    flipped: int = 0
    tied_first: int = 0
    tied_second: int = 0
    tied_both: int = 0
    spearman: float = math.nan
    kendall: float = math.nan
    correlated: int = 0
    best_changes: int = 0
    silent: tuple[int, int] = (0, 0)
    flips: list[Flip] = field(default_factory=list, repr=False)

    @property
    def flip_share(self) -> float:
        """Flipped pairs of all pairs; NaN without a pair."""
        return self.flipped / self.pairs if self.pairs else math.nan

    def plain(self) -> dict[str, Any]:
        """For JSON, without the list of flips."""
        facts = {key: value for key, value in asdict(self).items() if key != "flips"}
        return {**facts, "flip_share": self.flip_share}


def agreement(groups: Sequence[str], first: np.ndarray, second: np.ndarray) -> Agreement:
    """Hold two totals (N) of the same rows against each other, within groups. Rows with NaN in either are left out.

    Equation:
        pair (i, j) is flipped where (a_i - a_j)(b_i - b_j) < 0 and neither difference is a tie
        best changes where argmax a and argmax b, as sets with ties, have no row in common
        size of a flip = min(|a_i - a_j| / std(a), |b_i - b_j| / std(b))

    Edge cases: a group with fewer than two rows is none.
    """
    there = ~(np.isnan(first) | np.isnan(second))
    members: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if there[row]:
            members.setdefault(group, []).append(row)
    found = Agreement()
    if not members:
        return found
    spread = tuple(max(TIE, float(np.std(values[there]))) for values in (first, second))
    rhos, taus = [], []
    for group, rows in members.items():
        if len(rows) < 2:
            continue
        a, b = first[rows], second[rows]
        found.groups += 1
        counts = _pairs(found, group, rows, a, b, spread)
        found.best_changes += not (_best(a) & _best(b))
        tau, rho = kendall(counts), spearman(a, b)
        if not math.isnan(tau):
            taus.append(tau)
            rhos.append(rho)
    kept = [group for group, known in zip(groups, there.tolist(), strict=True) if known]
    found.silent = (silence(kept, first[there])[0], silence(kept, second[there])[0])
    found.correlated = len(taus)
    found.kendall, found.spearman = (float(np.mean(one)) if one else math.nan for one in (taus, rhos))
    found.flips.sort(key=lambda flip: -flip.size)
    return found


def _pairs(
    found: Agreement, group: str, rows: Sequence[int], a: np.ndarray, b: np.ndarray, spread: tuple[float, ...]
) -> Counter[str]:
    """Count the pairs of a group; its largest flip is kept, so that one group does not fill the list."""
    counts: Counter[str] = Counter()
    worst: Flip | None = None
    for i, j in combinations(range(len(rows)), 2):
        one, two = a[i] - a[j], b[i] - b[j]
        kind = kind_of(one, two)
        counts[kind] += 1
        if kind == "flipped":
            up, down = (i, j) if one > 0 else (j, i)
            size = min(abs(one) / spread[0], abs(two) / spread[1])
            if worst is None or size > worst.size:
                worst = Flip(group, rows[up], rows[down], float(size))
    for kind, n in counts.items():
        setattr(found, kind, getattr(found, kind) + n)
    found.pairs += sum(counts.values())
    if worst is not None:
        found.flips.append(worst)
    return counts


def kind_of(one: float, two: float) -> str:
    """How two stacks order a pair, from its difference under each."""
    if abs(one) <= TIE:
        return "tied_both" if abs(two) <= TIE else "tied_first"
    if abs(two) <= TIE:
        return "tied_second"
    return "alike" if (one > 0) == (two > 0) else "flipped"


def kendall(counts: Counter[str]) -> float:
    """Kendall's tau-b of a group from its pairs; NaN where a stack ties them all.

    Equation:
        (alike - flipped) / sqrt((pairs - ties of the first) (pairs - ties of the second))
    """
    total = sum(counts.values())
    own = total - counts["tied_first"] - counts["tied_both"]
    other = total - counts["tied_second"] - counts["tied_both"]
    return (counts["alike"] - counts["flipped"]) / math.sqrt(own * other) if own and other else math.nan


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of ranks, ties sharing their mean rank; NaN where a stack ties all."""
    x, y = (values - values.mean() for values in (_ranks(a), _ranks(b)))
    scale = math.sqrt(float((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / scale if scale else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[:, None] > values[None, :] + TIE).sum(1)
    equal = (np.abs(values[:, None] - values[None, :]) <= TIE).sum(1)
    return below + (equal + 1) / 2


def _best(values: np.ndarray) -> set[int]:
    return {int(i) for i in np.nonzero(values >= values.max() - TIE)[0]}


def silence(groups: Sequence[str], total: np.ndarray) -> tuple[int, int]:
    """Groups of two rows or more whose totals are all tied, and all such groups. NaN is left out."""
    members: dict[str, list[float]] = {}
    for group, value in zip(groups, total, strict=True):
        if not math.isnan(value):
            members.setdefault(group, []).append(float(value))
    there = [values for values in members.values() if len(values) > 1]
    return sum(max(values) - min(values) <= TIE for values in there), len(there)


@dataclass(frozen=True)
class Histogram:
    """Counts per bin. `edges` has one more than `counts`; `exact` bins stand for the single values in `edges`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    exact: bool


def histogram(values: np.ndarray, others: np.ndarray | None = None, bins: int = 10) -> Histogram:
    """Counts of values, NaN left out: of each value where there are up to `bins`, else in equal bins over their range.

    `others` are values that share the bins, so that both histograms can be read side by side.
    """
    own = values[~np.isnan(values)]
    both = own if others is None else np.concatenate([own, others[~np.isnan(others)]])
    distinct = np.unique(np.round(both, 6))
    if len(distinct) <= bins:
        counts = tuple(int((np.abs(own - one) <= TIE).sum()) for one in distinct)
        return Histogram(tuple(distinct.tolist()), counts, True)
    edges = np.linspace(both.min(), both.max(), bins + 1)
    return Histogram(tuple(edges.tolist()), tuple(np.histogram(own, edges)[0].tolist()), False)


def bars(counts: Sequence[int]) -> str:
    """A histogram in a line of text: a block per bin, its height against the largest; a dot for an empty bin."""
    most = max(counts, default=0)
    return "".join("·" if not n else "▁▂▃▄▅▆▇█"[min(7, math.ceil(8 * n / most) - 1)] for n in counts)
