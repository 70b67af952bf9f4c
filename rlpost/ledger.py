"""The ledger: what could not be used, counted by cause with a few places to look at, so that nothing is lost silently.

Four kinds: `drop` (a row left out), `cut` (a text that ends early), `shrink` (a medium that is shown with fewer visual
tokens than it holds, within the limits that were set), `fail` (work without a result: a reward timed out).
A loader fills a ledger of its own, checks it against its limit and adds it to the one of the process, `current()`.
"""

import hashlib
from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

from rlpost.errors import DataError, RewardError

Kind = Literal["drop", "cut", "shrink", "fail"]
KINDS: tuple[Kind, ...] = ("drop", "cut", "shrink", "fail")
EXAMPLES = 5


class Ledger:
    """Counts by kind and cause, with the first places where each was seen and how much was lost there.

    `read` is how many rows the loaders looked at, what the share of dropped rows is taken of; `asked` how many
    completions were made to measure with, beside the rows that trained.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}
        self._merged: set[str] = set()
        self._looked: set[str] = set()
        self._once: dict[str, tuple[str, str, int]] = {}  # digest -> kind, cause, lost; in the order of counting
        self.read = self.asked = 0

    def _add(self, kind: str, cause: str, count: int, where: list[str], lost: int = 0, unit: str = "") -> None:
        entry = self._entries.setdefault((kind, cause), {"count": 0, "where": [], "lost": 0, "unit": unit})
        entry["count"] += count
        entry["lost"] += lost
        entry["where"] = list(dict.fromkeys(entry["where"] + where))[:EXAMPLES]

    def _add_one(self, kind: Kind, cause: str, where: str, lost: int, unit: str, once: bool) -> None:
        if once:
            digest = hashlib.blake2b(f"{kind}\0{cause}\0{where}".encode("utf-8", "replace"), digest_size=8).hexdigest()
            if digest in self._once:
                return
            self._once[digest] = (kind, cause, lost)
        self._add(kind, cause, 1, [where], lost, unit)

    def drop(self, cause: str, where: str, *, once: bool = False) -> None:
        """A row that is left out. `once`: this place counts once, also in another epoch, rank or continued run."""
        self._add_one("drop", cause, where, 0, "", once)

    def cut(self, cause: str, where: str, *, lost: int = 0, unit: str = "") -> None:
        """A text that is used, but ends early; `lost` of `unit` are gone where that is known."""
        self._add_one("cut", cause, where, lost, unit, once=False)

    def shrink(self, cause: str, where: str, *, lost: int, unit: str = "visual tokens") -> None:
        """A medium that is shown with `lost` fewer tokens than it holds; each place counts once."""
        self._add_one("shrink", cause, where, lost, unit, once=True)

    def fail(self, cause: str, where: str) -> None:
        """Work that gave no result; what it would have given counts as missing, not as zero."""
        self._add_one("fail", cause, where, 0, "", once=False)

    def count(self, kind: Kind | None = None) -> int:
        """How many entries of one kind, or of all."""
        return sum(entry["count"] for (k, _), entry in self._entries.items() if kind in (None, k))

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind and cause, the most frequent first: for a table, a report or JSON.

        `lost` and `unit` are there where an amount is known.
        """
        found = [
            {"kind": k, "cause": c, "count": e["count"], "where": list(e["where"])}
            | ({"lost": e["lost"], "unit": e["unit"]} if e["lost"] else {})
            for (k, c), e in self._entries.items()
            if e["count"]
        ]
        return sorted(found, key=lambda row: (-row["count"], row["kind"], row["cause"]))

    def table(self) -> str:
        """The rows as lines of text; an empty string when there is nothing to report."""
        lines = []
        for row in self.rows():
            more = ", ..." if row["count"] > len(row["where"]) else ""
            lost = f": {row['lost']} {row['unit']}" if "lost" in row else ""
            lines.append(f"{row['kind']:6} {row['count']:6}  {row['cause']}{lost} ({', '.join(row['where'])}{more})")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint or another rank; `merge` reads it."""
        return {"entries": self.rows(), "once": {digest: list(what) for digest, what in self._once.items()}}

    def merge(self, other: Mapping[str, Any], *, once: str | None = None) -> None:
        """Add what another ledger's `as_dict` holds; with `once`, only the first time that this name is given.

        A file that is read for "train" and again for "test" names its bad rows twice, and they count once. So does a
        place that counts once and that both ledgers hold.
        """
        if once is not None and once in self._merged:
            return
        if once is not None:
            self._merged.add(once)
        for row in other["entries"]:
            self._add(
                row["kind"], row["cause"], row["count"], list(row["where"]), row.get("lost", 0), row.get("unit", "")
            )
        for digest, (kind, cause, lost) in other.get("once", {}).items():
            if digest in self._once:
                self._add(kind, cause, -1, [], -lost)
            else:
                self._once[digest] = (kind, cause, lost)

    def look(self, rows: int, *, once: str) -> None:
        """A loader went through these rows of `once`, the usable ones and the others."""
        if once not in self._looked:
            self._looked.add(once)
            self.read += rows

    def since(self, earlier: "Ledger") -> dict[str, Any]:
        """What was added after `earlier`, which this one has grown from: plain data for `merge`."""
        grown = Ledger()
        for (kind, cause), entry in self._entries.items():
            old = earlier._entries.get((kind, cause), {"count": 0, "where": [], "lost": 0})
            if entry["count"] > old["count"]:
                new = entry["where"][len(old["where"]) :]
                grown._add(kind, cause, entry["count"] - old["count"], new, entry["lost"] - old["lost"], entry["unit"])
        grown._once = dict(islice(self._once.items(), len(earlier._once), None))
        return grown.as_dict()

    def copy(self) -> "Ledger":
        """The same counts, apart."""
        other = Ledger()
        other.merge(self.as_dict())
        other.read, other.asked = self.read, self.asked
        return other

    def judge(self, rows: int, limits: Mapping[str, float | None]) -> None:
        """Raise where more than one entry of a kind and more than its share of the run's rows so far was counted.

        Dropped rows are held against the rows that were read, where a loader counted them.
        Raises RewardError for `fail`, DataError for the others.
        """
        for kind in KINDS:
            count, limit = self.count(kind), limits.get(kind)
            total = self.read if kind == "drop" and self.read else rows + self.asked
            if limit is not None and count > max(1, limit * total):
                error = RewardError if kind == "fail" else DataError
                raise error(
                    f"{count} entries of kind '{kind}' on {total} rows are more than the allowed share "
                    f"ledger.{kind}={limit:g}; mend what they name, or raise that limit (null: none):\n{self.table()}"
                )

    def check(self, total: int, limit: float, source: str = "the dataset") -> None:
        """Raise DataError when more than one row and more than the share `limit` of `total` rows were dropped.

        A single row never stops a run: in a small file it would exceed any sensible share.
        """
        dropped = self.count("drop")
        if dropped > max(1, limit * total):
            raise DataError(
                f"{dropped} of {total} rows of {source} cannot be used, more than the allowed share {limit:g}; "
                f"mend them or raise dataset.max_bad:\n{self.table()}"
            )


_current = Ledger()


def current() -> Ledger:
    """The ledger of this process; a run folder saves it at the end."""
    return _current


def reset() -> Ledger:
    """Start an empty ledger for a new run in the same process."""
    global _current
    _current = Ledger()
    return _current
