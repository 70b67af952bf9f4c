"""The folder of a run on a disk of others: how full it is, and how to delete whatever a program left there."""

import contextlib
import itertools
import os
import uuid

INODES = 8192  # files and folders in it
_LONGEST = 3072  # characters of a path; the kernel takes up to 4096


def too_full(folder: str, limit_mb: int) -> str:
    """Which bound the folder breaks, in words; empty where it breaks none. Stops looking at the first one."""
    size, count, todo = 0, 0, [folder]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # it is gone by now
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                count += 1
                if size > limit_mb << 20:
                    return f"it filled its folder with more than {limit_mb} MB"
                if count > INODES:
                    return f"it made more than {INODES} files and folders"
                if len(entry.path) > _LONGEST:
                    return "it nested its folders too deeply"
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
    return ""


def remove(folder: str) -> None:
    """Delete the folder of a run whose processes are dead, however deep, wide or shut it is."""
    names = (f"{folder}/{uuid.uuid4().hex}-{number}" for number in itertools.count())
    os.chmod(folder, 0o700)
    while entries := _entries(folder):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in _entries(entry.path):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, next(names))  # up to the top, so that no path is ever long
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
    os.rmdir(folder)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        return list(found)
