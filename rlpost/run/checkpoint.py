"""Checkpoints that are there as a whole or not at all: temporary folder, fsync, rename, and a manifest to verify."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rlpost.run import files

MANIFEST = "manifest.json"
_PARTIAL = ".partial-"


class Latest(NamedTuple):
    """The newest whole checkpoint (None if there is none), and one sentence for each folder that was passed over."""

    path: Path | None
    skipped: list[str]


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary sibling of `path` to write into; it becomes `path` when the block ends without an error."""
    path = Path(path)
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with files.disk(path, lambda: f"What was in {path.parent} before is untouched."):
            partial.mkdir(parents=True)
            yield partial
            _seal(partial)
            _swap(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def verify(path: str | Path) -> list[str]:
    """One sentence per fault of a saved folder against its manifest; an empty list means that it is whole."""
    path = Path(path)
    manifest = path / MANIFEST
    if not manifest.is_file():
        return [f"{path} has no {MANIFEST}: it was not written to the end."]
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        return [f"{manifest} cannot be read: the folder is damaged."]
    faults = []
    for name, entry in listed.items():
        place = path / name
        if not place.is_file():
            faults.append(f"{place} is missing.")
        elif place.stat().st_size != entry["bytes"]:
            faults.append(f"{place} has {place.stat().st_size} bytes, the manifest says {entry['bytes']}.")
        elif digest(place) != entry["sha256"]:
            faults.append(f"{place} differs from its checksum in the manifest.")
    return faults


def latest(folder: str | Path) -> Latest:
    """The newest whole checkpoint of a folder. Half-written and damaged ones are passed over, and it says so."""
    folder = Path(folder)
    if not folder.is_dir():
        return Latest(None, [])
    places = [place for place in folder.iterdir() if place.is_dir()]
    skipped = [f"Skipped {place}: it was being written when the run stopped." for place in places if _unfinished(place)]
    for place in sorted((place for place in places if not _unfinished(place)), key=_order, reverse=True):
        faults = verify(place)
        if not faults:
            return Latest(place, skipped)
        skipped.append(f"Skipped the checkpoint {place.name}: {faults[0]}")
    return Latest(None, skipped)


def newest(folder: str | Path) -> Path | None:
    """The newest finished checkpoint by its name, without reading it: for messages, not for loading."""
    places = [place for place in Path(folder).glob("*") if (place / MANIFEST).is_file() and not _unfinished(place)]
    return max(places, key=_order, default=None)


def step_of(path: str | Path) -> int:
    """The step in the name of a checkpoint (`step-000020` is 20), -1 for a name without one."""
    digits = Path(path).name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _order(path: Path) -> tuple[int, str]:
    return step_of(path), path.name


def _unfinished(path: Path) -> bool:
    return path.name.startswith(_PARTIAL)


def _seal(folder: Path) -> None:
    places = sorted(place for place in folder.rglob("*") if place.is_file() and place != folder / MANIFEST)
    listed = {}
    for place in places:
        listed[place.relative_to(folder).as_posix()] = {"bytes": place.stat().st_size, "sha256": digest(place)}
        _sync(place)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": listed}, indent=2) + "\n", encoding="utf-8")
    _sync(manifest)
    for place in [folder, *(place for place in folder.rglob("*") if place.is_dir())]:
        _sync(place)


def _swap(partial: Path, path: Path) -> None:
    """A rename cannot replace a folder with files in it: the old one steps aside and goes when the new one is there."""
    aside = path.with_name(f"{_PARTIAL}old-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    try:
        partial.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    _sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
