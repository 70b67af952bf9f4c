"""The processes below a process: who they are, what they use, and how to end them all."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass

_CLEAN_UP_S = 10.0
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Resident memory, processor time (ended children included) and number of threads."""

    memory_kb: int = 0
    cpu_seconds: float = 0.0
    tasks: int = 0

    def highest(self, other: "Usage") -> "Usage":
        """The larger of each number."""
        return Usage(
            max(self.memory_kb, other.memory_kb),
            max(self.cpu_seconds, other.cpu_seconds),
            max(self.tasks, other.tasks),
        )


def descendants(root: int) -> list[int]:
    """Every process below `root`, without itself."""
    found: list[int] = []
    todo = [root]
    while todo:
        fresh = _children(todo.pop())
        found += fresh
        todo += fresh
    return found


def _children(pid: int) -> list[int]:
    """Children are kept by the thread that forked them. Processes that end meanwhile have none."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with (
                contextlib.suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{pid}/task/{task}/children") as file,
            ):
                found += [int(text) for text in file.read().split()]
    return found


def usage(pids: list[int], exact_above_kb: int) -> Usage:
    """What the processes use together.

    Resident memory counts a page once per process; only where that sum is above `exact_above_kb` are shared pages
    divided among their users, which costs the kernel more.
    """
    rows = [row for row in map(_stat, pids) if row]
    memory = sum(row[0] for row in rows)
    if memory > exact_above_kb and len(rows) > 1:
        memory = min(memory, sum(map(_proportional, pids)))
    return Usage(memory, sum(row[1] for row in rows), sum(row[2] for row in rows))


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Pss:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:  # then the plain sum is what counts
        return 1 << 60


def _stat(pid: int) -> tuple[int, float, int] | None:
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:  # a program gives itself any name
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    cpu = sum(int(fields[place]) for place in (11, 12, 13, 14)) / _TICKS
    threads = 0 if fields[0] in "ZX" else int(fields[17])
    return int(fields[21]) * _PAGE_KB, cpu, threads


def end_all(first: int, pause_s: float) -> None:
    """Kill and reap everything below this process, which adopts orphans; OSError if something is left.

    The death of the `first` process of a process tree of its own ends that whole tree at once. Where there is none,
    all are stopped before all are killed: a fork bomb then fills its limit with processes that stand still.
    """
    deadline = time.monotonic() + _CLEAN_UP_S
    seen: set[int] = set()
    _send([first], signal.SIGKILL)
    while set(found := descendants(os.getpid())) - seen and time.monotonic() < deadline:
        _send(found, signal.SIGSTOP)
        seen |= set(found)
    while True:
        _send(descendants(os.getpid()), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        if time.monotonic() > deadline:
            raise OSError(f"processes {descendants(os.getpid())} of the sandbox could not be killed")
        time.sleep(pause_s / 20)


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
