"""The data of Video-R1: rows of a local copy of its JSON files, with questions of five types on images and videos."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlpost import ledger
from rlpost.dataset.visual import known
from rlpost.errors import ConfigError, DataError
from rlpost.types import Media, Task

TYPES = ("multiple choice", "numerical", "OCR", "free-form", "regression")
INSTRUCTION = (
    "Work through the question before you answer it: write down your reasoning between <think> and </think>, the way a "
    "careful person thinks aloud, and check it as you go. Then give the answer between <answer> and </answer>."
)
SUFFIX = {
    "multiple choice": "Between the answer tags, write the letter of the right option and nothing else.",
    "numerical": "Between the answer tags, write the number and nothing else, such as 42 or 3.14.",
    "OCR": "Between the answer tags, write the text exactly as it appears.",
    "free-form": "Between the answer tags, write your answer as a short text.",
    "regression": "Between the answer tags, write your estimate as a number and nothing else.",
}


def video_r1(
    split: str,
    *,
    path: str,
    media_root: str | None = None,
    data: Literal["all", "video", "image"] = "all",
    types: Sequence[str] = TYPES,
    demonstrations: bool = False,
    held_out: float = 0.005,
    limit: int | None = None,
    max_bad: float = 0.01,
) -> list[Task]:
    """Rows of Video-R1-260k or Video-R1-COT-165k; their media paths start from the folder `media_root`.

    With `demonstrations` a row's `process` and `solution` become its demonstration. The share `held_out` of the rows,
    by a hash of the media path, is the test split, so that no video serves both.

    Edge cases: a row with a missing column, an unknown type or no media file is counted in the ledger; past the share
    `max_bad` the run stops. A missing video is never replaced by another one.
    """
    if split not in ("train", "test"):
        raise ConfigError(f"dataset video_r1 has no split {split!r}; choose train or test")
    unknown = [name for name in types if name not in TYPES]
    if unknown or not types:
        raise ConfigError(f"dataset.types holds {unknown or 'nothing'}; choose from {', '.join(TYPES)}")
    file = Path(path).expanduser()
    root = Path(media_root).expanduser() if media_root else file.parent
    rows = _rows(file)
    seen, tasks = ledger.Ledger(), []
    for i, row in enumerate(rows):
        fault = _fault(row, root, demonstrations)
        if fault:
            seen.drop(fault, f"{file.name} row {i}")
        elif row["problem_type"] in types and data in ("all", row["data_type"]) and _split(row, held_out) == split:
            tasks.append(_task(row, i, root, demonstrations))
        if limit is not None and len(tasks) >= limit:
            break
    ledger.current().merge(seen.as_dict(), once=str(file))
    ledger.current().look(i + 1, once=str(file))
    seen.check(i + 1, max_bad, str(file))
    if not tasks:
        raise DataError(f"{file} leaves no {split} rows of the wanted types and media; widen data, types or held_out")
    return tasks


def _rows(file: Path) -> list[Any]:
    if not file.is_file():
        raise DataError(
            f"{file} does not exist; download the hub dataset Video-R1/Video-R1-data, unpack its archives, and set "
            "dataset.path to its JSON file (and dataset.media_root where the media lie elsewhere)"
        )
    with file.open(encoding="utf-8-sig") as opened:
        try:
            lines = file.suffix == ".jsonl"
            rows = [json.loads(line) for line in opened if line.strip()] if lines else json.load(opened)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deep
            raise DataError(f"{file} is not valid JSON ({error}); download it again") from error
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{file} holds no rows: a JSON list of objects is needed")
    return rows


def _fault(row: Any, root: Path, demonstrations: bool) -> str:
    """Why a row cannot be used, or nothing."""
    if not isinstance(row, Mapping):
        return "row is not an object"
    wanted = ["problem", "problem_type", "data_type", "path", "solution"] + (["process"] if demonstrations else [])
    missing = [name for name in wanted if not row.get(name)]
    if missing:
        return f"no {missing[0]}"
    if row["problem_type"] not in TYPES:
        return "unknown problem_type"
    if row["data_type"] not in ("image", "video"):
        return "unknown data_type"
    if row["problem_type"] == "multiple choice" and not (row.get("options") and isinstance(row["options"], list)):
        return "multiple choice without options"
    if not isinstance(row["path"], str):
        return "path is not text"
    place = known(row["path"], root)
    return "" if place is not None and place.is_file() else "media file missing"


def _split(row: Mapping[str, Any], held_out: float) -> str:
    place = int(hashlib.sha256(str(row["path"]).encode()).hexdigest()[:12], 16) / 16**12
    return "test" if place < held_out else "train"


def _task(row: Mapping[str, Any], number: int, root: Path, demonstrations: bool) -> Task:
    question = str(row["problem"])
    if row["problem_type"] == "multiple choice":
        question += "\nOptions:\n" + "\n".join(str(option) for option in row["options"])
    text = f"{question}\n\n{INSTRUCTION} {SUFFIX[row['problem_type']]}"
    kind = row["data_type"]
    return Task(
        id=str(row.get("problem_id", number)),
        prompt=[{"role": "user", "content": [{"type": kind}, {"type": "text", "text": text}]}],
        answer=str(row["solution"]),
        media=(Media(kind, path=str(root / row["path"])),),
        columns={name: value for name, value in row.items() if name not in ("problem", "solution", "path", "process")},
        demonstration=f"{row['process']}\n{row['solution']}" if demonstrations else None,
        tags=(kind, row["problem_type"]),
    )
