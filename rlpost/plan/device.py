"""The device that a run would use: its memory that is free now, less than all of it."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

# What a CUDA context and its libraries take before the first tensor, roughly.
CONTEXT = 600 << 20
_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Device:
    """`free` bytes of `total`. `shared`: all ranks of the run live in this one memory (a host), not one on each.

    `measured`: it is there, and not only asked for.
    """

    name: str
    kind: str
    free: int
    total: int
    libraries: int
    shared: bool
    measured: bool = True


def at_hand(memory_gib: float | None = None) -> Device:
    """The device of this machine, or a GPU of `memory_gib` GiB to plan for elsewhere.

    `libraries` is what Python and torch take: of a host the resident set of this process, which has imported them
    and holds no model; of a GPU a context.
    """
    if memory_gib is not None:
        size = int(memory_gib * 2**30)
        return Device(f"a GPU of {memory_gib:g} GiB, as asked for", "cuda", size, size, CONTEXT, False, measured=False)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Device(torch.cuda.get_device_name(), "cuda", free, total, CONTEXT, False)
    memory = psutil.virtual_memory()
    free, total = _bounded(memory.available, memory.total)
    return Device("this machine", "cpu", free, total, psutil.Process(os.getpid()).memory_info().rss, True)


def _bounded(free: int, total: int) -> tuple[int, int]:
    """A container may have less than its host. This process ends before the run starts, so its own share is free."""
    for limit, used in _LIMITS:
        try:
            most, now = (int(Path(place).read_text()) for place in (limit, used))
        except (OSError, ValueError):  # no such group, or "max"
            continue
        if most < total:
            return min(free, max(0, most - now)), most
    return free, total
