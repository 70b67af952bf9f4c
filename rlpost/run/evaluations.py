"""What an evaluation found on each task: `evaluation.jsonl` of a run folder, and fingerprints of the data behind it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlpost.run import files
from rlpost.run.folder import RunFolder

if TYPE_CHECKING:  # `rlpost compare` reads these files without torch
    from rlpost.types import Media, Rollout, Task

FILE = "evaluation.jsonl"


def seen(task: "Task") -> str:
    """Sixteen digits that two tasks share where a model is asked the same: prompt, media and expected answer."""
    return _digest([task.prompt, _native(task.answer), [_medium(medium) for medium in task.media]])


def fingerprint(tasks: "Sequence[Task]") -> dict[str, Any]:
    """The number of tasks and a digest of all that they hold, in their order.

    Edge cases: columns that JSON cannot hold are left out. A file counts with its name, not with its content or place.
    """
    digest = hashlib.blake2b(digest_size=8)
    for task in tasks:
        columns = {name: value for name, value in task.columns.items() if _native(value) is not None}
        digest.update(_digest([task.id, seen(task), _native(task.demonstration), columns]).encode())
    return {"tasks": len(tasks), "fingerprint": digest.hexdigest()}


def lines(rollouts: "Sequence[Rollout]", when: str) -> list[dict[str, Any]]:
    """One record per task: the scores of its completions by reward (None: does not apply), tokens, why they ended."""
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(rollout)
    return [_line(rows, when) for rows in by_task.values()]


def save(folder: RunFolder, rollouts: "Sequence[Rollout]", when: str, **how: Any) -> None:
    """Write what was measured `when` (before, after, eval) in place of an earlier measurement of that name.

    `how` goes to `environment.json` with the fingerprint of the tasks: what counts as right, and how was sampled.
    """
    if not folder.writes:
        return
    kept = [line for line in files.read_lines(folder.path / FILE) if line.get("when") != when]
    records = [files.plain(line) for line in [*kept, *lines(rollouts, when)]]
    content = "".join(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n" for line in records)
    files.write(folder.path / FILE, content, folder.safe)
    tasks = list({rollout.task.id: rollout.task for rollout in rollouts}.values())
    folder.note(evaluated={**how, **fingerprint(tasks)})


def load(folder: Path, when: str) -> dict[str, dict[str, Any]]:
    """The records measured `when`, by task id."""
    return {line["task"]: line for line in files.read_lines(folder / FILE) if line.get("when") == when}


def note_data(folder: RunFolder, tasks: "Sequence[Task]") -> None:
    """Keep the fingerprint of what is trained on in `environment.json`."""
    if folder.writes:
        folder.note(trained_on=fingerprint(tasks))


def sampled(sampling: Any, num_generations: int) -> dict[str, Any]:
    """How completions were drawn, for `save`."""
    return {"sampling": {**asdict(sampling), "num_generations": num_generations}}


def _line(rows: "Sequence[Rollout]", when: str) -> dict[str, Any]:
    from rlpost.stack import row_score

    task = rows[0].task
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    return {
        "when": when,
        "task": task.id,
        "seen": seen(task),
        "tags": list(task.tags),
        "scores": {name: [row_score(row.scores.get(name)) for row in rows] for name in names},
        "tokens": [len(row.tokens) for row in rows],
        "stops": [row.stop for row in rows],
    }


def _medium(medium: "Media") -> list[Any]:
    frames = medium.frames
    if frames is not None:
        array = np.ascontiguousarray(frames)
        frames = [hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest(), list(array.shape)]
    name = Path(medium.path).name if medium.path else None
    return [medium.kind, name, frames, medium.fps, medium.start_s, medium.end_s, medium.change]


def _native(value: Any) -> Any:
    """`value` where JSON can hold it, otherwise None: what prints an address would never be the same twice."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return None
    return value


def _digest(value: Any) -> str:
    text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    """Messages are mappings of any kind; a part that JSON cannot hold counts with its type."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if _native(value) is not None else type(value).__name__
