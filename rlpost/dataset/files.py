"""Datasets from files: JSONL, JSON, CSV and parquet, in the formats that TRL documents."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from rlpost import ledger
from rlpost.dataset.shape import Columns, prompt_digest, resolve, to_task
from rlpost.dataset.visual import BadRow, known
from rlpost.errors import DataError
from rlpost.types import Task

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
Row = tuple[str, Mapping[str, Any] | BadRow]  # where it stands, and what it holds


def files(
    split: str,
    *,
    path: str,
    test_path: str | None = None,
    test_share: float = 0.1,
    format: Literal["auto", "jsonl", "json", "csv", "parquet"] = "auto",
    prompt: str | None = None,
    answer: str | None = None,
    messages: str | None = None,
    completion: str | None = None,
    text: str | None = None,
    chosen: str | None = None,
    rejected: str | None = None,
    label: str | None = None,
    id: str | None = None,
    system: str | None = None,
    tags: Sequence[str] = (),
    limit: int | None = None,
    max_bad: float = 0.01,
) -> Sequence[Task]:
    """Rows of a file, or of the files named after the split in a folder.

    A column knob that is null means the usual name (prompt, completion, messages, text, chosen, ...).
    A file without `test_path` gives the share `test_share` of its rows to "test", by a hash of the prompt.

    Edge cases: a row that cannot be used is counted in the ledger with its line; more than one such row and more than
    the share `max_bad` stop the run. Plain text prompts become one user message. Rows with equal prompts share a side.
    """
    columns = Columns(prompt, answer, messages, completion, text, chosen, rejected, label, id)
    own, held_out = _places(path, test_path, split)
    rows = _limited([row for file in own for row in read(file, format)], limit)
    tasks = tasks_of(
        rows,
        columns,
        source=path if len(own) > 1 else str(own[0]),
        split=split,
        system=system,
        tags=tags,
        base=own[0].parent,
        max_bad=max_bad,
    )
    if not held_out:
        return tasks
    found = _side(tasks, split, test_share)
    if not found:
        raise DataError(
            f"{path} leaves no rows for {split!r} with test_share={test_share:g}; change it or give dataset.test_path"
        )
    return found


def tasks_of(
    rows: Sequence[Row],
    wanted: Columns,
    *,
    source: str,
    split: str,
    system: str | None,
    tags: Sequence[str],
    base: Path | None,
    max_bad: float,
) -> list[Task]:
    """Rows as tasks; what cannot be used goes to the ledger (once per source), and stops the run past `max_bad`."""
    if not rows:
        raise DataError(f"{source} is empty: it holds no rows")
    names = list(dict.fromkeys(name for _, row in rows if not isinstance(row, BadRow) for name in row))
    seen = ledger.Ledger()
    columns = resolve(names, wanted, source) if names else None
    for tag in tags:
        if names and tag not in names:
            raise DataError(f"{source} has no column {tag!r} (dataset.tags); it has {', '.join(sorted(names))}")
    tasks, ids = [], dict[str, int]()
    for i, (where, row) in enumerate(rows):
        try:
            if isinstance(row, BadRow):
                raise row
            assert columns is not None
            task = to_task(row, columns, id=f"{split}-{i}", system=system, tags=tags, base=base)
            ids[task.id] = number = ids.get(task.id, 0) + 1
            # Two questions under one name would be scored as one.
            tasks.append(task if number == 1 else replace(task, id=f"{task.id}#{number}"))
        except BadRow as bad:
            seen.drop(str(bad), where)
    ledger.current().merge(seen.as_dict(), once=source)
    seen.check(len(rows), max_bad, source)
    ledger.current().look(len(rows), once=source)
    if not tasks:
        raise DataError(f"{source} holds {len(rows)} rows and none can be used:\n{seen.table()}")
    return tasks


def read(file: Path, format: str = "auto") -> Iterator[Row]:
    """Rows of one file with their places; a broken line comes as BadRow, a broken file raises DataError."""
    kind = FORMATS.get(file.suffix.lower()) if format == "auto" else format
    if kind is None:
        raise DataError(
            f"{file} ends with {file.suffix!r}; name its kind with dataset.format ({', '.join(FORMATS)} are known)"
        )
    try:
        yield from _OPEN[kind](file)
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); convert it") from error


def _jsonl(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as lines:
        for n, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_object)
            except BadRow as bad:
                yield f"{file.name}:{n}", bad
                continue
            except (ValueError, RecursionError):  # a number of too many digits, too deep a nesting
                yield f"{file.name}:{n}", BadRow("the line is not JSON")
                continue
            yield f"{file.name}:{n}", _mapping(row)


def _json(file: Path) -> Iterator[Row]:
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_object)
    except (BadRow, json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{file} is not JSON ({error}); if it has one object per line, set dataset.format=jsonl"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("data"), list):
        found = found["data"]
    if not isinstance(found, list):
        raise DataError(
            f"{file} holds {type(found).__name__}; a dataset is a list of objects, or an object with the list 'data'"
        )
    yield from ((f"{file.name}[{n}]", _mapping(row)) for n, row in enumerate(found))


def _csv(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        names = _header(reader, file)
        if len(set(names)) < len(names):
            raise DataError(f"{file} names a column twice in its header ({', '.join(names)}); rename one of them")
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{file.name}:{reader.line_num}", BadRow(f"the line is not CSV ({error})")
                continue
            where = f"{file.name}:{reader.line_num}"
            if None in row or None in row.values():
                yield where, BadRow("the line has more or fewer fields than the header")
            else:
                yield where, row


def _header(reader: csv.DictReader, file: Path) -> Sequence[str]:
    try:
        return list(reader.fieldnames or ())
    except csv.Error as error:
        raise DataError(f"{file} has no header that is CSV ({error})") from error


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(file)
        n = 0
        for batch in opened.iter_batches():
            for row in batch.to_pylist():  # rows of equal names would lose a column: pyarrow refuses them
                yield f"{file.name}[{n}]", row
                n += 1
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # its own for some, Python's for the others
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{file} cannot be read as parquet ({reason}); write it again") from error


_OPEN = {"jsonl": _jsonl, "json": _json, "csv": _csv, "parquet": _parquet}


def _mapping(row: Any) -> Mapping[str, Any] | BadRow:
    return row if isinstance(row, dict) else BadRow(f"the row is {type(row).__name__}, not an object with columns")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that stands twice, Python's own reader would drop one value without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow(f"an object has the key {twice!r} twice")
    return found


def _limited(rows: list[Row], limit: int | None) -> list[Row]:
    return rows if limit is None else rows[:limit]


def _places(path: str, test_path: str | None, split: str) -> tuple[list[Path], bool]:
    """Files of a split, and whether its rows have yet to be told apart by hash."""
    if split == "test" and test_path is not None:
        return [_file(test_path, "test_path")], False
    place = known(path)
    if place is not None and place.is_dir():
        here = sorted(file for file in place.iterdir() if file.suffix.lower() in FORMATS)
        found = [file for file in here if file.name.replace("-", ".").replace("_", ".").split(".")[0] == split]
        if not found:
            names = ", ".join(file.name for file in here) or "no file of a known kind"
            raise DataError(f"the folder {path} has no file for {split!r} (such as {split}.jsonl); it has {names}")
        return found, False
    if split not in ("train", "test"):
        raise DataError(
            f"{path} is one file and has the splits train and test, not {split!r}; give a folder with {split}.jsonl"
        )
    return [_file(path, "path")], test_path is None


def _file(path: str, knob: str) -> Path:
    file = known(path)
    if file is None or not file.is_file():
        raise DataError(f"the dataset file {path!r} does not exist (dataset.{knob})")
    if file.stat().st_size == 0:
        raise DataError(f"{path} is empty: the file has 0 bytes")
    return file


def _side(tasks: Sequence[Task], split: str, test_share: float) -> list[Task]:
    """Train or test rows: prompts in order of their hash fill the test side up to its share, at least one row."""
    digests = [prompt_digest(task) for task in tasks]
    groups: dict[str, int] = {}
    for digest in digests:
        groups[digest] = groups.get(digest, 0) + 1
    wanted = max(1, round(test_share * len(tasks))) if test_share > 0 and len(groups) > 1 else 0
    held: set[str] = set()
    count = 0
    for digest in sorted(groups):
        if count >= wanted:
            break
        held.add(digest)
        count += groups[digest]
    return [task for task, digest in zip(tasks, digests, strict=True) if (digest in held) == (split == "test")]


def numbered(rows: Iterable[Mapping[str, Any]], source: str) -> list[Row]:
    """Rows that are already mappings, with their places."""
    return [(f"{source}[{n}]", row) for n, row in enumerate(rows)]
