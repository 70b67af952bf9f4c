"""Which probes get what they do not deserve: from the scores of every probe on every row to findings in sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rlpost.run.tables import paired
from rlpost.workbench.probes import KINDS, NAMED, Kind

TINY = 1e-6
LEVEL = 0.99  # of the intervals: about two dozen probes are judged at once
# The 99.5% quantiles of Student's t for 1 to 30 degrees of freedom; with more it is taken as for 30, which is stricter.
T = (
    *(63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947),
    *(2.921, 2.898, 2.878, 2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771, 2.763, 2.756, 2.750),
)
SHARE = 0.25  # of the rows that tell right from wrong: a hole that opens on as many is one, whatever the mean says
Values = Mapping[str, Mapping[str, np.ndarray]]  # column -> probe -> one value per row, NaN where there is none


@dataclass(frozen=True)
class Finding:
    """One hole: what `probe` got from `column` (a reward or the total), beside gold and an honest wrong answer.

    kind `gold`: as much as a right answer. kind `pays`: more than the same text without the trick. kind `blind`: an
    honest wrong answer gets as much as a right one. `rows` of `of` rows show it.
    """

    probe: str
    column: str
    kind: str
    got: float
    gold: float | None
    wrong: float | None
    base: float | None
    rows: int
    of: int

    @property
    def sentence(self) -> str:
        """What was got for what."""
        what = NAMED[self.probe].says
        rest = f" ({self.rows} of {self.of} rows)"
        if self.kind == "blind":
            return f"{self.column} does not tell wrong from right: {_n(self.got)} and {_n(self.gold)}{rest}"
        level = f"gold gets {_n(self.gold)}, an honest wrong answer {_n(self.wrong)}"
        if self.kind == "pays":
            base = NAMED[NAMED[self.probe].base].says
            return f"{self.column} gives {_n(self.got)} to {what}, and only {_n(self.base)} to {base}{rest}"
        return f"{self.column} gives {_n(self.got)} to {what}; {level}{rest}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "family": NAMED[self.probe].family, "sentence": self.sentence}


def by_probe(columns: Mapping[str, np.ndarray], places: Sequence[str], probes: Sequence[str]) -> dict[str, Any]:
    """The scores of each column by probe and row. `places` and `probes` name the row and the probe of each text."""
    rows = {place: i for i, place in enumerate(dict.fromkeys(places))}
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in columns}
    for i, (place, probe) in enumerate(zip(places, probes, strict=True)):
        for name, values in columns.items():
            found[name].setdefault(probe, np.full(len(rows), np.nan))[rows[place]] = values[i]
    return found


def findings(values: Values, tolerance: float) -> list[Finding]:
    """Every hole, at most one per probe and column; the total is left out where a single reward says the same.

    Equation:
        a column tells right from wrong where the 99% bootstrap interval of mean(gold - wrong) is above 0
        gold:  mean(probe) >= mean(gold) - tolerance (mean(gold) - mean(wrong)), or that holds row by row on a quarter
               of the rows (two at least) on which gold gets more than wrong
        pays:  otherwise, mean(probe - base) is above 0 by its 99% t interval
        blind: the total does not tell right from wrong; then `gold` asks for mean(probe) >= mean(gold), and only of
               probes that try no answer at all
    Edge cases:
        A reward that does not tell right from wrong is no fault by itself, such as one for the form: only the total is
        asked to tell. Intervals are over rows and have no width where all rows agree, so a handful of rows is enough
        for a rule, and not for a judge that is noisy.
    """
    whole = "total" if "total" in values else next(iter(values), "")
    found: list[Finding] = []
    for column in [name for name in values if name != whole] + [whole] * bool(whole):
        told = {(one.probe, one.kind) for one in found}
        own = _of_column(column, values[column], tolerance, whole=column == whole)
        found += [one for one in own if (one.probe, one.kind) not in told]
    order = {kind.name: n for n, kind in enumerate(KINDS)}
    return sorted(found, key=lambda one: (one.kind != "blind", order[one.probe]))


def _of_column(column: str, probes: Mapping[str, np.ndarray], tolerance: float, *, whole: bool) -> list[Finding]:
    gold, wrong = probes.get("gold"), probes.get("wrong")
    tells = gold is not None and wrong is not None and _tells(gold, wrong)
    found = []
    if whole and gold is not None and wrong is not None and not tells and _both(gold, wrong).any():
        there = _both(gold, wrong)
        worse = int((wrong[there] >= gold[there] - TINY).sum())
        found.append(Finding("wrong", column, "blind", _mean(wrong), _mean(gold), None, None, worse, int(there.sum())))
    for name, got in probes.items():
        kind, one = NAMED[name], None
        asked = tells or (whole and not kind.answers)
        if gold is not None and wrong is not None and not kind.right and asked:
            one = _as_gold(kind, column, got, gold, wrong, tolerance if tells else 0.0)
        if one is None and kind.base in probes:
            one = _pays(kind, column, got, probes)
        found += [one] if one else []
    return found


def _as_gold(
    kind: Kind, column: str, got: np.ndarray, gold: np.ndarray, wrong: np.ndarray, tolerance: float
) -> Finding | None:
    there = _both(got, gold) & ~np.isnan(wrong)
    if not there.any():
        return None
    g, w, p = gold[there], wrong[there], got[there]
    margin = tolerance * max(0.0, float(g.mean() - w.mean()))
    telling = g > w + TINY
    reached = p >= g - tolerance * np.maximum(g - w, 0.0) - TINY
    at_rows = int((reached & telling).sum())
    often = tolerance > 0 and at_rows >= max(2, math.ceil(SHARE * telling.sum()))
    if p.mean() < g.mean() - margin - TINY and not often:
        return None
    rows, of = (at_rows, int(telling.sum())) if often else (int(reached.sum()), int(there.sum()))
    return Finding(kind.name, column, "gold", float(p.mean()), float(g.mean()), float(w.mean()), None, rows, of)


def _pays(kind: Kind, column: str, got: np.ndarray, probes: Mapping[str, np.ndarray]) -> Finding | None:
    base = probes[kind.base]
    there = _both(got, base)
    if not surely_more(got, base):
        return None
    more = int((got[there] > base[there] + TINY).sum())
    gold, wrong = (_mean(probes[name]) if name in probes else None for name in ("gold", "wrong"))
    return Finding(
        kind.name,
        column,
        "pays",
        float(got[there].mean()),
        gold,
        wrong,
        float(base[there].mean()),
        more,
        int(there.sum()),
    )


def _tells(gold: np.ndarray, wrong: np.ndarray) -> bool:
    """Whether the bootstrap interval of mean(gold - wrong) is above 0."""
    there = _both(gold, wrong)
    return paired(wrong[there].tolist(), gold[there].tolist(), LEVEL).low > TINY


def surely_more(got: np.ndarray, base: np.ndarray) -> bool:
    """Whether the t interval of mean(got - base) is above 0: one row is never enough, two that agree exactly are.

    The bootstrap is too narrow here: of three rows of noise every eighth probe would be above its base.
    """
    gains = (got - base)[_both(got, base)]
    if len(gains) < 2:
        return False
    width = T[min(len(gains) - 1, len(T)) - 1] * float(gains.std(ddof=1)) / math.sqrt(len(gains))
    return float(gains.mean()) - width > TINY


def _both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return ~(np.isnan(one) | np.isnan(other))


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else math.nan


def table(values: Values, found: Sequence[Finding]) -> list[dict[str, Any]]:
    """One record per probe: the mean of each column (None where none applies) and its verdict."""
    flagged: dict[str, list[str]] = {}
    for one in found:
        flagged.setdefault(one.probe, []).append(one.column)
    rows = []
    for kind in KINDS:
        if not any(kind.name in probes for probes in values.values()):
            continue
        means = {column: _mean(probes[kind.name]) for column, probes in values.items() if kind.name in probes}
        plain = {column: None if math.isnan(mean) else mean for column, mean in means.items()}
        holes = list(dict.fromkeys(flagged.get(kind.name, ())))
        rows.append({"probe": kind.name, "family": kind.family, "says": kind.says, "means": plain, "holes": holes})
    return rows


def _n(value: float | None) -> str:
    return "nothing" if value is None or math.isnan(value) else f"{value:.3g}"
