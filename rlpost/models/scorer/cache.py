"""Results of second models on disk, by content: several processes share one file, which keeps to a size."""

import contextlib
import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

log = logging.getLogger("rlpost")

LAYOUT = 1  # part of the file's name, so that another layout never reads this one
BUSY_S = 30.0  # how long a process waits for another one's write
KEEP = 0.9  # share of the limit that is left after old results were removed
CHUNK = 500  # keys per statement, below SQLite's limit on variables
FRESH_S = 60.0  # a result used so recently is not marked as used again: reading should rarely write

Found = TypeVar("Found")


def key_of(*parts: Any) -> str:
    """Hex digest of plain data: the same content gives the same key in every process."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """A bounded table of JSON values in one SQLite file; the least recently used leave first.

    Edge cases: a file that cannot be read or written (full disk, damage, a lock that never ends) never stops a run: it
    counts in `errors`, is said once in the log, and the results are computed. Each operation opens the file anew, so
    forks and threads need no care. The file does not shrink; freed space is used again.
    """

    def __init__(self, folder: Path, *, max_mb: float) -> None:
        self.path = folder / f"scorer-v{LAYOUT}.sqlite"
        self.max_bytes = int(max_mb * 1e6)
        self.errors = 0

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The values that are there, by key."""
        return self._open("read", lambda db: self._get(db, keys), {})

    def put(self, values: Mapping[str, Any]) -> None:
        """Store values, then remove the least recently used ones where the limit is passed."""
        self._open("write", lambda db: self._put(db, values), None)

    def size(self) -> int:
        """Bytes of the stored keys and values."""
        return self._open("read", lambda db: int(db.execute("SELECT bytes FROM total").fetchone()[0]), 0)

    def _get(self, db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        now, old = time.time(), []
        for start in range(0, len(keys), CHUNK):
            part = list(keys[start : start + CHUNK])
            marks = ",".join("?" * len(part))
            rows = db.execute(f"SELECT key, value, used FROM results WHERE key IN ({marks})", part).fetchall()
            found |= {key: json.loads(value) for key, value, _ in rows}
            old += [(now, key) for key, _, used in rows if used < now - FRESH_S]
        if old:
            with db:
                db.executemany("UPDATE results SET used = ? WHERE key = ?", old)
        return found

    def _put(self, db: sqlite3.Connection, values: Mapping[str, Any]) -> None:
        now, added = time.time(), 0
        with db:
            db.execute("BEGIN IMMEDIATE")
            for key, value in values.items():
                text = json.dumps(value)
                size = len(key) + len(text)
                if size <= self.max_bytes:
                    row = (key, size, now, text)
                    added += size * db.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?)", row).rowcount
            db.execute("UPDATE total SET bytes = bytes + ?", (added,))
            (total,) = db.execute("SELECT bytes FROM total").fetchone()
            if total > self.max_bytes:
                self._shrink(db, total)

    def _shrink(self, db: sqlite3.Connection, total: int) -> None:
        leaving = []
        for key, size in db.execute("SELECT key, size FROM results ORDER BY used, key"):
            if total <= KEEP * self.max_bytes:
                break
            leaving.append((key,))
            total -= size
        db.executemany("DELETE FROM results WHERE key = ?", leaving)
        db.execute("UPDATE total SET bytes = ?", (total,))

    def _open(self, purpose: str, action: Callable[[sqlite3.Connection], Found], otherwise: Found) -> Found:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=BUSY_S)) as db:
                # The rollback journal, SQLite's default, works wherever file locks do; a write-ahead log does not.
                db.execute("PRAGMA synchronous = NORMAL")
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'total'").fetchone():
                    _create(db)
                return action(db)
        except (sqlite3.Error, OSError, ValueError) as error:
            self.errors += 1
            if self.errors == 1:
                log.warning(
                    "cannot %s the cache of scorers (%s); going on without it: remove %s if it is damaged",
                    purpose, error, self.path,
                )  # fmt: skip
            return otherwise


def _create(db: sqlite3.Connection) -> None:
    with db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, size INTEGER, used REAL, value TEXT)")
        db.execute("CREATE INDEX IF NOT EXISTS by_use ON results (used, key, size)")
        db.execute("CREATE TABLE IF NOT EXISTS total (bytes INTEGER)")
        db.execute("INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total)")
