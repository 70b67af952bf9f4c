"""Runs an attack in each kind of cage that works here, and looks for what it left outside. Standard library only."""

import functools
import os
import time
import uuid
from pathlib import Path
from typing import Any

from rlpost.sandbox import Job, Limits, Outcome, SandboxError, python_job
from rlpost.sandbox.client import ask

SMALL = Limits(seconds=10.0, memory_mb=200, processes=16, file_mb=4, folder_mb=8, open_files=32, output_kb=64)


@functools.cache
def why_not(mode: str) -> str:
    """Empty where this kind of cage works for this user on this machine, else the reason."""
    try:
        outcome, _ = ask(python_job("print(1)"), namespaces=mode == "namespaces")
    except SandboxError as error:
        return str(error)
    return "" if outcome.stdout == "1\n" else outcome.stderr or outcome.detail


def run_in(mode: str, job: Job) -> Outcome:
    return ask(job, namespaces=mode == "namespaces")[0]


def attack(
    mode: str, code: str, *arguments: Any, limits: Limits = SMALL, stdin: str = "", files: dict[str, str] | None = None
) -> Outcome:
    """The outcome of a program, after making sure that no process of it is left."""
    mark = f"attack-{uuid.uuid4()}"
    words = [str(argument) for argument in arguments]
    outcome = run_in(mode, python_job(code, arguments=[*words, mark], limits=limits, stdin=stdin, files=files))
    assert marked(mark) == [], "a process is left"
    return outcome


def marked(mark: str) -> list[int]:
    """Processes whose command line has the mark; forks inherit it."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(int(name))
        except OSError:
            continue
    return found


def wait_until(condition, seconds: float = 20.0) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False
