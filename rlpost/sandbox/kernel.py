"""The system calls that Python's standard library lacks. Each raises OSError with the name of the call."""

import ctypes
import os
import struct

NEW_NS, NEW_IPC, NEW_UTS = 0x00020000, 0x08000000, 0x04000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
MNT_DETACH = 2
SYS_LANDLOCK = {"create": 444, "add": 445, "restrict": 446}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_MOUNT_SETATTR = 442
_PR_DEATHSIG, _PR_DUMPABLE, _PR_SECCOMP, _PR_SUBREAPER, _PR_NO_NEW_PRIVS = 1, 4, 22, 36, 38
_ATTR_READ_ONLY, _ATTR_NOSUID, _ATTR_NODEV, _AT_RECURSIVE, _AT_FDCWD = 1, 2, 4, 0x8000, -100

_libc = ctypes.CDLL(None, use_errno=True)
MACHINE = os.uname().machine


def _check(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def call(number: int, *args: int | bytes | ctypes.Structure | None, name: str) -> int:
    """A raw system call; integers are passed as 64 bits."""
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return _check(_libc.syscall(ctypes.c_long(number), *wide), name)


def prctl(option: int, *args: int, name: str) -> None:
    wide = [ctypes.c_ulong(arg) for arg in (*args, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *wide), name)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _check(result, f"mount of {source} on {target}")


def unmount(target: str) -> None:
    _check(_libc.umount2(os.fsencode(target), MNT_DETACH), f"umount of {target}")


def pivot_root(new: str, old: str) -> None:
    if MACHINE not in _PIVOT_ROOT:
        raise OSError(38, f"pivot_root: the machine type {MACHINE} is not known")
    call(_PIVOT_ROOT[MACHINE], os.fsencode(new), os.fsencode(old), name="pivot_root")


def make_read_only(target: str, *, recursive: bool) -> None:
    """The mount at `target`, or all below it too, loses writing, set-uid programs and devices."""
    attributes = struct.pack("=4Q", _ATTR_READ_ONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    depth = _AT_RECURSIVE if recursive else 0
    path = os.fsencode(target)
    call(_MOUNT_SETATTR, _AT_FDCWD, path, depth, attributes, len(attributes), name="mount_setattr")


def drop_capabilities() -> None:
    """Give up all capabilities; a user namespace had given them to an ordinary user."""
    if MACHINE not in _CAPSET:
        raise OSError(38, f"capset: the machine type {MACHINE} is not known")
    header = struct.pack("=Ii", 0x20080522, 0)
    call(_CAPSET[MACHINE], header, bytes(24), name="capset")


def die_with_parent() -> None:
    """SIGKILL for this process when the thread that made it ends."""
    prctl(_PR_DEATHSIG, 9, name="prctl(PDEATHSIG)")


def hide_memory() -> None:
    """Nobody without privileges may trace this process or read its /proc files."""
    prctl(_PR_DUMPABLE, 0, name="prctl(DUMPABLE)")


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, also those that called setsid."""
    prctl(_PR_SUBREAPER, 1, name="prctl(CHILD_SUBREAPER)")


def no_new_privileges() -> None:
    prctl(_PR_NO_NEW_PRIVS, 1, name="prctl(NO_NEW_PRIVS)")


def install_filter(program: bytes) -> None:
    """A BPF program (8 bytes an instruction) judges every further system call."""
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SECCOMP, ctypes.c_ulong(2), head, 0, 0), "prctl(SECCOMP)")
