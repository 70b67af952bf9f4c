"""One process writes a run folder: a lock of the operating system, which dies with its process, and who holds it."""

import contextlib
import json
import os
import socket
from datetime import datetime
from pathlib import Path

from rlpost.errors import ConfigError
from rlpost.run import files

NAME = "run.lock"


class Lock:
    """Held by this process until `release` or its end; what a dead process left behind is taken over."""

    def __init__(self, path: Path, handle: int):
        self.path, self.handle = path, handle

    @classmethod
    def of(cls, folder: Path) -> "Lock | None":
        """The lock of a run folder; None on a file system or a platform without locks.

        Raises ConfigError naming the process that holds it.
        """
        path = folder / NAME
        while True:
            with files.disk(path):
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not _taken(handle):
                    os.close(handle)
                    return None
            except BlockingIOError:
                os.close(handle)
                raise ConfigError(_sentence(path)) from None
            if _same(path, handle):
                break
            os.close(handle)  # its holder removed the file between our two calls
        lock = cls(path, handle)
        with files.disk(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, (json.dumps(_holder()) + "\n").encode(), 0)
        return lock

    def release(self) -> None:
        """Remove the file and let go of the lock, in this order: nobody else may remove it."""
        handle, self.handle = self.handle, -1  # the number may be another file's by the second call
        if handle < 0:
            return
        with contextlib.suppress(OSError):
            if _same(self.path, handle):
                self.path.unlink(missing_ok=True)
        os.close(handle)

    def __del__(self) -> None:
        self.release()


def _taken(handle: int) -> bool:
    """Take the lock; False where there are no locks. Raises BlockingIOError where another process has it.

    A lock of this kind belongs to the process: its children do not keep it alive.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise BlockingIOError from error
    except OSError:
        return False
    return True


def _same(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _holder() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now().isoformat(" ", "seconds")}


def _sentence(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"The run folder {path.parent} is being written by {who}: wait for that run or end it, then continue it with "
        f"resume={path.parent}; or choose another run.dir."
    )
