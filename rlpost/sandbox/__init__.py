"""Runs code that a model wrote, and tools, in a process bounded in time, memory, processes, files and network."""

from rlpost.sandbox.call import call
from rlpost.sandbox.client import Job, protections, python_job, run, run_job, run_many, run_python
from rlpost.sandbox.limits import Limits, Outcome, Protections, SandboxError

__all__ = [
    "Job", "Limits", "Outcome", "Protections", "SandboxError",
    "call", "protections", "python_job", "run", "run_job", "run_many", "run_python",
]  # fmt: skip
