"""The ledger: what could not be used, counted by cause with a few places to look at, so that nothing is lost silently.

Three kinds: `drop` (a row left out), `cut` (a row shortened), `fail` (work without a result: a reward timed out).
A loader fills a ledger of its own, checks it against its limit and adds it to the one of the process, `current()`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from rlpost.errors import DataError, RewardError

Kind = Literal["drop", "cut", "fail"]
KINDS: tuple[Kind, ...] = ("drop", "cut", "fail")
EXAMPLES = 5


class Ledger:
    """Counts by kind and cause, with the first places where each was seen."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], dict[str, Any]] = {}
        self._merged: set[str] = set()

    def _add(self, kind: str, cause: str, count: int, where: list[str]) -> None:
        entry = self._entries.setdefault((kind, cause), {"count": 0, "where": []})
        entry["count"] += count
        entry["where"] = (entry["where"] + where)[:EXAMPLES]

    def drop(self, cause: str, where: str) -> None:
        """A row that is left out."""
        self._add("drop", cause, 1, [where])

    def cut(self, cause: str, where: str) -> None:
        """A row that is used, but shortened."""
        self._add("cut", cause, 1, [where])

    def fail(self, cause: str, where: str) -> None:
        """Work that gave no result; what it would have given counts as missing, not as zero."""
        self._add("fail", cause, 1, [where])

    def count(self, kind: Kind | None = None) -> int:
        """How many entries of one kind, or of all."""
        return sum(entry["count"] for (k, _), entry in self._entries.items() if kind in (None, k))

    def rows(self) -> list[dict[str, Any]]:
        """One row per kind and cause, the most frequent first: for a table, a report or JSON."""
        found = [
            {"kind": k, "cause": c, "count": e["count"], "where": list(e["where"])}
            for (k, c), e in self._entries.items()
        ]
        return sorted(found, key=lambda row: (-row["count"], row["kind"], row["cause"]))

    def table(self) -> str:
        """The rows as lines of text; an empty string when there is nothing to report."""
        lines = []
        for row in self.rows():
            more = ", ..." if row["count"] > len(row["where"]) else ""
            lines.append(f"{row['kind']:5} {row['count']:6}  {row['cause']} ({', '.join(row['where'])}{more})")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint or another rank; `merge` reads it."""
        return {"entries": self.rows()}

    def merge(self, other: Mapping[str, Any], *, once: str | None = None) -> None:
        """Add what another ledger's `as_dict` holds; with `once`, only the first time that this name is given.

        A file that is read for "train" and again for "test" names its bad rows twice, and they count once.
        """
        if once is not None and once in self._merged:
            return
        if once is not None:
            self._merged.add(once)
        for row in other["entries"]:
            self._add(row["kind"], row["cause"], row["count"], list(row["where"]))

    def since(self, earlier: "Ledger") -> dict[str, Any]:
        """What was added after `earlier`, which this one has grown from: plain data for `merge`."""
        grown = Ledger()
        for (kind, cause), entry in self._entries.items():
            old = earlier._entries.get((kind, cause), {"count": 0, "where": []})
            if entry["count"] > old["count"]:
                grown._add(kind, cause, entry["count"] - old["count"], entry["where"][len(old["where"]) :])
        return grown.as_dict()

    def copy(self) -> "Ledger":
        """The same counts, apart."""
        other = Ledger()
        other.merge(self.as_dict())
        return other

    def judge(self, rows: int, limits: Mapping[str, float | None]) -> None:
        """Raise where more than one entry of a kind and more than its share of the run's rows so far was counted.

        Raises RewardError for `fail`, DataError for `drop` and `cut`.
        """
        for kind in KINDS:
            count, limit = self.count(kind), limits.get(kind)
            if limit is not None and count > max(1, limit * rows):
                error = RewardError if kind == "fail" else DataError
                raise error(
                    f"{count} entries of kind '{kind}' on {rows} rows are more than the allowed share "
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
