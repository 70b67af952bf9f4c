"""What a run ran on: versions, git state, threads, platform. Nothing of the process environment is copied."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rlpost.run import redact

PACKAGES = (
    "rlpost", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "tokenizers", "safetensors", "numpy",
    "hydra-core", "omegaconf", "triton", "vllm", "deepspeed", "av",
)  # fmt: skip


def describe(seed: int | None = None) -> dict[str, Any]:
    """Everything worth knowing when a number must be reproduced. Imports nothing heavy that is not loaded yet."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": _threads(),
        "devices": _devices(),
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": versions(),
        "git": git_state(Path(__file__).resolve().parent),
        "argv": [redact.text(word) for word in sys.argv],
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(place: Path) -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout that holds `place`; None outside of one (an installed wheel)."""
    commit = _git(place, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git(place, "status", "--porcelain", "--untracked-files=no"))}


def _git(place: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _threads() -> int | None:
    """Sums differ between thread counts, so a resumed run wants the same number."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.get_num_threads()
    declared = os.environ.get("OMP_NUM_THREADS", "")
    return int(declared) if declared.isdigit() else None


def _devices() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
