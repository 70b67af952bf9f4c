"""Landlock: which files a program may read and write, decided by the kernel, for any user.

Source: Linux kernel documentation, "Landlock: unprivileged access control" (userspace-api/landlock).
"""

import os
import stat
import struct
from collections.abc import Iterable

from rlpost.sandbox import kernel

_EXECUTE, _WRITE, _READ, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | 1 << 15
_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # bits known to each version of the interface
_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
TRUNCATE_SINCE = 3  # before it, truncate(path) is not judged


def version() -> int:
    """The version of the kernel's interface; 0 where there is none."""
    try:
        return kernel.call(kernel.SYS_LANDLOCK["create"], None, 0, 1, name="landlock_create_ruleset")
    except OSError:
        return 0


def guards_signals() -> bool:
    """Whether signals and abstract sockets stay inside."""
    return version() >= _SCOPES_SINCE


def restrict(reads: Iterable[str], writes: Iterable[str]) -> None:
    """From now on only `reads` can be read and executed, only `writes` changed; no way back. Missing paths are skipped.

    TCP is shut, and signals and abstract sockets are kept inside, where the kernel's version has that.
    """
    found = version()
    if not found:
        return
    rights = (1 << _RIGHTS_BY_VERSION.get(found, 16)) - 1
    attributes = struct.pack("=Q", rights)
    if found >= _NETWORK_SINCE:
        attributes += struct.pack("=Q", 3)
    if found >= _SCOPES_SINCE:
        attributes += struct.pack("=Q", 3)
    name = "landlock_create_ruleset"
    ruleset = kernel.call(kernel.SYS_LANDLOCK["create"], attributes, len(attributes), 0, name=name)
    try:
        for path in reads:
            _allow(ruleset, path, rights & (_EXECUTE | _READ | _READ_DIR))
        for path in writes:
            _allow(ruleset, path, rights)
        kernel.call(kernel.SYS_LANDLOCK["restrict"], ruleset, 0, name="landlock_restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, handle)
        kernel.call(kernel.SYS_LANDLOCK["add"], ruleset, 1, rule, 0, name="landlock_add_rule")
    finally:
        os.close(handle)
