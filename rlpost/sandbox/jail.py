"""Puts this process into a cage. All of it runs before untrusted code does, in children of the supervisor."""

import errno
import json
import math
import os
import random
import resource
import stat
from typing import Any

from rlpost.sandbox import kernel, landlock, seccomp
from rlpost.sandbox.folder import INODES

BOX = "/box"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SLACK = 4  # processes beyond the limit that the kernel lets through, so that the supervisor sees the limit broken
_HIGH_USERS = (1 << 24, 1 << 30)
_CONTAINER_USERS = (61184, 65519)  # systemd's range of users that nobody has


def other_user() -> int:
    """A user id that nobody has, for a run under root: limits on processes count by user, and root has none.

    A container may know only the first 65536 ids.
    """
    with open("/proc/self/uid_map") as file:
        spans = [(int(inside), int(count)) for inside, _, count in map(str.split, file)]
    for low, high in (_HIGH_USERS, _CONTAINER_USERS):
        if any(start <= low and high < start + count for start, count in spans):
            return random.SystemRandom().randrange(low, high)
    raise OSError(errno.EPERM, "this user namespace has no spare user ids to run programs as")


def leave_process_tree() -> None:
    """The next child begins a process tree of its own; an ordinary user needs a user namespace for that."""
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(kernel.NEW_PID)
        return
    kernel.unshare(kernel.NEW_USER | kernel.NEW_PID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def build_root(reads: list[str], folder_mb: int, user: int) -> None:
    """A file tree of its own: the given paths read-only, a few devices, and an empty folder that the user owns."""
    kernel.unshare(kernel.NEW_NS | kernel.NEW_NET | (0 if seccomp.supported() else kernel.NEW_IPC))
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", "/tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    os.mkdir("/tmp/old")
    kernel.pivot_root("/tmp", "/tmp/old")
    os.chdir("/")
    for path in outermost(reads):
        _show(path)
    os.makedirs("/dev", exist_ok=True)
    for path in DEVICES:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        kernel.mount(f"/old{path}", path, None, kernel.MS_BIND)
    for name, to in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{to}", f"/dev/{name}")
    _own_proc()
    os.makedirs("/etc", exist_ok=True)
    with open("/etc/passwd", "w") as file:
        file.write(f"box:x:{user}:{user}:box:{BOX}:/bin/sh\n")
    os.mkdir(BOX)
    kernel.mount("tmpfs", BOX, "tmpfs", 6, f"size={folder_mb}m,nr_inodes={INODES},mode=700")
    for link in ("/tmp", "/dev/shm"):
        if not os.path.exists(link):  # a path to read may lie below /tmp
            os.symlink(BOX, link)
    kernel.unmount("/old")
    os.rmdir("/old")
    kernel.make_read_only("/", recursive=False)


def outermost(paths: list[str]) -> list[str]:
    """The paths that lie in no other one, without repeats."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(parent.rstrip("/") + "/") for parent in kept):
            kept.append(path)
    return kept


def _show(path: str) -> None:
    """Bind a path of the old tree at the same place, read-only; links of the top level stay links."""
    old = f"/old{path}"
    try:
        kind = os.lstat(old).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(kind):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.readlink(old), path)
        return
    if stat.S_ISDIR(kind):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    kernel.mount(old, path, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.make_read_only(path, recursive=True)


def _own_proc() -> None:
    """The process table of this tree alone; some containers forbid it, and then there is none."""
    os.mkdir("/proc")
    try:
        kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    except PermissionError:
        return


def write_files(folder: str, files: list[tuple[str, bytes]], user: int) -> None:
    """The files of a run, owned by the user of the program; the folder was empty, so no link can lead out."""
    made: list[str] = [folder]
    for name, content in files:
        path = os.path.join(folder, name)
        parent = folder
        for part in name.split("/")[:-1]:
            parent = os.path.join(parent, part)
            if not os.path.isdir(parent):
                os.mkdir(parent, 0o700)
                made.append(parent)
        with open(path, "wb") as file:
            file.write(content)
        made.append(path)
    if os.geteuid() == 0:
        for path in made:
            os.chown(path, user, user)


def set_limits(limits: dict[str, Any], *, own_count: bool) -> None:
    """The kernel's limits per process; the supervisor watches the sums.

    `own_count`: no other process counts as this user's, so the number of processes can be bounded exactly.
    """
    seconds = math.ceil(limits["cpu_seconds"]) + 1
    memory, size = limits["memory_mb"] << 20, min(limits["file_mb"], limits["folder_mb"]) << 20
    count = limits["processes"] + SLACK
    if not own_count:
        count += _tasks_of(os.getuid())
    wanted = {
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_AS: (memory, memory),
        resource.RLIMIT_FSIZE: (size, size),
        resource.RLIMIT_NOFILE: (limits["open_files"],) * 2,
        resource.RLIMIT_NPROC: (count, count),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    for kind, (soft, hard) in wanted.items():
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(kind, (soft, hard))


def _tasks_of(user: int) -> int:
    """How many threads the user has now, since the kernel counts them all."""
    total = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == user:
                total += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # it ended meanwhile
            continue
    return total


def lock(reads: list[str], folder: str, user: int, *, others_visible: bool) -> None:
    """Another user or no capabilities, then files and system calls for good."""
    same_user = os.geteuid() != 0
    if not same_user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        if 0 in os.getresuid():  # the limit on processes would not hold
            raise OSError(errno.EPERM, "the program would still be root")
    else:
        kernel.drop_capabilities()
    kernel.no_new_privileges()
    if others_visible:
        landlock.restrict([*reads, *DEVICES], [folder, *DEVICES])
    else:
        landlock.restrict(["/"], [folder, *DEVICES])
    if seccomp.supported():
        seccomp.install(others_visible=others_visible, same_user=same_user)


def say(pipe: int, **record: Any) -> None:
    """One line for the supervisor."""
    os.write(pipe, json.dumps(record).encode() + b"\n")
