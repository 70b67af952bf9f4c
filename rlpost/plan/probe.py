"""Three real steps on the longest samples: how long a step takes, and what it needs of memory.

`python -m rlpost.plan.probe <request.json> <answer.json>` is a process of its own, so that its peak is the run's.
"""

import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rlpost.batches import MAX_BAD
from rlpost.config import Config
from rlpost.errors import ConfigError, RlpostError
from rlpost.launch import wanted
from rlpost.plan.batch import cycle_of
from rlpost.types import Task

STEPS = 3


def only(
    split: str, *, dataset: Callable[[str], Sequence[Task]], places: Sequence[int], max_bad: float = MAX_BAD
) -> list[Task]:
    """The tasks of a dataset at these positions, whatever the split; `max_bad` is what the dataset itself allows."""
    tasks = dataset("train")
    return [tasks[place] for place in places]


def probe(cfg: Config, places: Sequence[int], steps: int) -> dict[str, Any]:
    """Run the steps in a temporary folder; seconds per step with their spread, hours for all, and peak memory.

    The first generation is a warm-up and not counted: kernels are chosen, memory is taken and sharing is proved in it.
    Raises ConfigError for a run of several processes, and what the run itself raises.
    """
    if wanted(cfg):
        raise ConfigError("--probe measures one process, and this run has several; probe with launch=local")
    cycle = cycle_of(cfg.tree) * int(cfg.tree["trainer"].get("num_iterations", 1)) if cfg.command == "grpo" else 1
    counted = cycle * math.ceil(STEPS / cycle)
    with tempfile.TemporaryDirectory(prefix="rlpost-plan-") as folder:
        small = Config(**{**vars(cfg), "tree": shortened(cfg.tree, places, cycle + counted, Path(folder) / "run")})
        request, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        request.write_text(json.dumps(asdict(small)), encoding="utf-8")
        line = [sys.executable, "-m", "rlpost.plan.probe", str(request), str(answer)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=_environment())
        if not answer.is_file():
            last = [text for text in done.stderr.strip().splitlines() if text.strip()][-1:] or ["it said nothing"]
            raise RlpostError(f"the probe ended with exit code {done.returncode}: {last[0]}")
        told = json.loads(answer.read_text(encoding="utf-8"))
    if "message" in told:
        error = RlpostError(f"the probe failed: {told['message']}")
        error.exit_code = told["exit_code"]
        raise error
    return {**timed(told["times"], cycle, steps), "peak": told["peak"], "cuda peak": told["cuda peak"], "cycle": cycle}


def _environment() -> dict[str, str]:
    """The child imports what this process does, from the same places."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}


def timed(times: Sequence[float], cycle: int, steps: int) -> dict[str, Any]:
    """Seconds per step from the moments (s) at which steps ended; steps of one generation are taken together.

    `low` and `high` of the whole run are two standard errors around the mean, never below 0.
    """
    ends = list(times[cycle - 1 :: cycle])
    each = [(b - a) / cycle for a, b in itertools.pairwise(ends)]
    middle = mean(each)
    error = stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    hours = steps * middle / 3600
    return {
        "seconds per step": each,
        "mean": middle,
        "standard error": error,
        "steps": steps,
        "hours": hours,
        "hours low": max(0.0, hours - 2 * steps * error / 3600),
        "hours high": hours + 2 * steps * error / 3600,
    }


def shortened(tree: Mapping[str, Any], places: Sequence[int], steps: int, folder: Path) -> dict[str, Any]:
    """The configuration of the probe: the same run on a few tasks, without evaluation, checkpoints and report."""
    dataset = tree["dataset"]
    node = {"_target_": f"{__name__}.only", "dataset": dict(dataset), "places": list(places)}
    if "max_bad" in dataset:
        node["max_bad"] = dataset["max_bad"]
    trainer = {**tree["trainer"], "max_steps": steps, "logging_steps": 1, "save_steps": 10**9, "max_minutes": None}
    return {
        **tree,
        "dataset": node,
        "trainer": trainer,
        "evaluation": {**(tree.get("evaluation") or {}), "tasks": 0},
        "run": {**(tree.get("run") or {}), "dir": str(folder), "report": False},
        "logger": None,
        "resume": None,
    }


def _run(request: Path, answer: Path) -> None:
    from rlpost.execute import readable, trainer_of
    from rlpost.run.folder import RunFolder

    cfg = Config(**json.loads(request.read_text(encoding="utf-8")))
    folder = RunFolder.create(cfg)
    try:
        trainer_of(cfg.command)(cfg, folder)
    except Exception as error:
        told = readable(error, cfg, folder)
        facts = {"message": str(told) or type(told).__name__, "exit_code": getattr(told, "exit_code", 1)}
    else:
        times = [one["time"] for one in folder.metrics() if one.get("phase") == "train" and "grad_norm" in one]
        facts = {"times": times, "peak": _peak(), "cuda peak": _cuda_peak()}
    answer.write_text(json.dumps(facts), encoding="utf-8")


def _peak() -> int:
    """Bytes of the largest resident set of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _cuda_peak() -> int | None:
    import torch

    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None


if __name__ == "__main__":
    _run(Path(sys.argv[1]), Path(sys.argv[2]))
