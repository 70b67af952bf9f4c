"""Writing files so that a full disk is a sentence and an interrupted write leaves the old file."""

import errno
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlpost.errors import ConfigError, RlpostError
from rlpost.run import redact

# A completion cut inside a character decodes to a lone surrogate; its backslash form is a legal JSON escape.
LONE = "backslashreplace"
FULL = "no space left"
# What a system answers to a write, besides that the disk is full.
REFUSALS = (
    errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP,
)  # fmt: skip
# Messages of torch, which does not pass the error of the system on, and of safetensors.
HIDDEN_FULL = ("No space left on device", "PytorchStreamWriter failed writing file", "unexpected pos")
Safe = Callable[[], str]


def nothing() -> str:
    """What is safe where there is nothing to say."""
    return ""


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, arrays lists, paths text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if hasattr(value, "tolist"):  # numpy and torch, arrays and scalars
        return plain(value.tolist())
    return str(value)


class Unwritable(RlpostError):
    """A file could not be written; `why` is what the system said."""

    def __init__(self, message: str, why: str):
        self.why = why
        super().__init__(message)


@contextmanager
def disk(path: Path, safe: Safe = nothing) -> Iterator[None]:
    """Turns a full disk, or another refusal of the system while writing `path`, into a sentence that says what is safe.

    Raises Unwritable.
    """
    try:
        yield
    except RlpostError:
        raise
    except Exception as fault:
        told = unwritable(fault, str(path), safe)
        if told is None:
            raise
        raise told from fault


def unwritable(fault: BaseException, what: str, safe: Safe = nothing) -> Unwritable | None:
    """The sentence on a failed write of `what`; None where the fault is another one."""
    why = _refusal(fault)
    if why is None:
        return None
    if why == FULL:
        parts = [f"The disk is full: {what} could not be written.", safe(), "Free some space and start again."]
    else:
        parts = [f"{what} could not be written ({why}).", safe()]
    return Unwritable(" ".join(filter(None, parts)), why)


def _refusal(fault: BaseException) -> str | None:
    """What the system said; torch and safetensors hide it in a message of their own."""
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return FULL
    if isinstance(fault, OSError) and fault.errno is not None and fault.errno in REFUSALS:
        return os.strerror(fault.errno)
    text = str(fault)
    if any(words in text for words in HIDDEN_FULL):
        return FULL
    return next((os.strerror(number) for number in REFUSALS if f"(os error {number})" in text), None)


def there(path: Path) -> bool:
    """Whether something is at the path; a name that no file can have is nowhere."""
    try:
        return path.exists()
    except OSError:
        return False


def write(path: Path, content: str, safe: Safe = nothing) -> None:
    """Replaces `path` in one move, so that a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    try:
        with disk(path, safe):
            with partial.open("w", encoding="utf-8", errors=LONE) as stream:
                stream.write(redact.values(content))
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any, safe: Safe = nothing) -> None:
    """`value` as indented JSON without NaN."""
    write(path, json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n", safe)


def append_lines(path: Path, records: Iterable[dict], safe: Safe = nothing) -> None:
    """Appends one JSON line per record and flushes, so that a crash loses nothing that was logged."""
    lines = "".join(json.dumps(plain(record), allow_nan=False, ensure_ascii=False) + "\n" for record in records)
    with disk(path, safe), path.open("a", encoding="utf-8", errors=LONE) as stream:
        stream.write(redact.values(lines))
        stream.flush()


def read_lines(path: Path) -> list[dict]:
    """The records of a JSON lines file; a last line that a crash cut off is left out."""
    if not path.exists():
        return []
    records = []
    # Not splitlines(): completions hold other line separators, such as U+2028.
    lines = path.read_text(encoding="utf-8").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as fault:
            if number < len(lines):
                raise ConfigError(
                    f"{path} line {number} is not JSON ({fault.msg}): the file was changed by hand."
                ) from fault
    return records


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
