"""`--verify-resume K`: prove for the user's own recipe that a run which is killed and continued is the run itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlpost.errors import ConfigError, RlpostError, SelfCheckError
from rlpost.run import checkpoint, files

# What a clock says differs between two runs of the same thing.
_CLOCK = ("time", "runtime", "_per_s", "_per_second", "minutes")
COMMANDS = ("sft", "grpo", "dpo", "reward")


def verify(command: str, overrides: list[str], steps: int, say: Callable[[str], Any] = print) -> dict[str, int]:
    """Run 2K steps at once, and again with SIGKILL after checkpoint K and `resume`; compare both bit for bit.

    Compared are every metric that no clock measures, every completion, and every file of weights. Returns how many of
    each were equal. Held-out evaluation is left out; the schedule of the learning rate is that of 2K steps. Raises
    SelfCheckError (exit 8) with the first differences, ConfigError for a command or a number that cannot be verified.
    """
    if command not in COMMANDS:
        raise ConfigError(f"--verify-resume is for {', '.join(COMMANDS)}; rlpost {command} has no steps to resume")
    if steps < 1:
        raise ConfigError(f"--verify-resume {steps}: the number of steps before and after the kill must be 1 or more")
    owned = [text for text in overrides if text.lstrip("+").startswith(("run.dir=", "resume="))]
    if owned:
        raise ConfigError(f"--verify-resume runs in folders of its own; leave out {', '.join(owned)}")
    with tempfile.TemporaryDirectory(prefix="rlpost-verify-") as place:
        whole, killed = Path(place, "whole"), Path(place, "killed")
        given = [
            *overrides,
            *(f"trainer.{key}={value}" for key, value in (("max_steps", 2 * steps), ("save_steps", steps))),
            "evaluation.tasks=0",
            "run.report=false",
        ]
        say(f"1 of 3: {2 * steps} steps at once")
        _finish(command, [*given, f"run.dir={whole}"])
        say(f"2 of 3: the same, killed after the checkpoint of step {steps}")
        _kill(command, [*given, f"run.dir={killed}"], killed, steps)
        say("3 of 3: the killed run, continued")
        _finish(command, [f"resume={killed}"])
        equal = compared(whole, killed)
        if not _moved(whole):
            say(
                "note: every gradient was 0, so that the weights never moved and their equality says little; "
                "take a reward that this model earns, or more steps"
            )
        return equal


def compared(whole: Path, resumed: Path) -> dict[str, int]:
    """How many metrics, completions and files of weights are equal. Raises SelfCheckError with what differs."""
    metrics = _counted(_metrics(whole)), _counted(_metrics(resumed))
    rows = _counted(_rows(whole)), _counted(_rows(resumed))
    weights = dict(_weights(whole)), dict(_weights(resumed))
    differ = []
    for kind, (first, second) in (("metric", metrics), ("completion", rows), ("weights", weights)):
        for name in dict.fromkeys([*first, *second]):
            if first.get(name) != second.get(name):
                was, now = (_short(part.get(name, "missing")) for part in (first, second))
                differ.append(f"{kind} {name}: {was} at once, {now} after the kill")
    if differ:
        shown = "".join(f"\n  {line}" for line in differ[:10])
        more = f"\n  and {len(differ) - 10} more" if len(differ) > 10 else ""
        raise SelfCheckError(f"the continued run is another one, {len(differ)} differences:{shown}{more}")
    if not metrics[0] or not weights[0]:
        raise SelfCheckError("there was nothing to compare: the run logged no step or saved no weights")
    return {"metrics": len(metrics[0]), "completions": len(rows[0]), "files of weights": len(weights[0])}


def _counted(found: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    """By name; what is there a second time has a name of its own, so that it differs from a run without it."""
    times: Counter[str] = Counter()
    kept = {}
    for name, value in found:
        times[name] += 1
        kept[name if times[name] == 1 else f"{name}, written {times[name]} times,"] = value
    return kept


def _metrics(folder: Path) -> Iterator[tuple[str, Any]]:
    for record in files.read_lines(folder / "metrics.jsonl"):
        for name, value in record.items():
            if name not in ("step", "phase") and not any(word in name for word in _CLOCK):
                yield f"{name} of step {record.get('step')} ({record.get('phase')})", value


def _rows(folder: Path) -> Iterator[tuple[str, str]]:
    for record in files.read_lines(folder / "rollouts.jsonl"):
        yield f"{record.get('row')} of step {record.get('step')}", json.dumps(record, sort_keys=True)


def _weights(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((folder / "model").glob("*.safetensors")):
        yield path.name, checkpoint.digest(path)


def _moved(folder: Path) -> bool:
    """Whether any step had a gradient; a run that does not log its norm is believed."""
    norms = [record["grad_norm"] for record in files.read_lines(folder / "metrics.jsonl") if "grad_norm" in record]
    return not norms or any(norms)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _start(command: str, overrides: list[str]) -> subprocess.Popen:
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.Popen(
        [sys.executable, "-m", "rlpost", command, *overrides],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _finish(command: str, overrides: list[str]) -> None:
    run = _start(command, overrides)
    _, said = run.communicate()
    if run.returncode:
        told = said.strip()[-2000:]
        raise RlpostError(f"the run that was to be verified ended with exit code {run.returncode}:\n{told}")


def _kill(command: str, overrides: list[str], folder: Path, steps: int) -> None:
    """SIGKILL as soon as the checkpoint of step K is whole. What a fast run wrote after it is taken away."""
    run = _start(command, overrides)
    wanted = folder / "checkpoints" / f"step-{steps:06d}" / checkpoint.MANIFEST
    while run.poll() is None and not wanted.is_file():
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    _, said = run.communicate()
    if not wanted.is_file():
        raise RlpostError(f"the run ended before its checkpoint of step {steps}:\n{said.strip()[-2000:]}")
    for later in (folder / "checkpoints").iterdir():
        if checkpoint.step_of(later) > steps:
            shutil.rmtree(later)
    shutil.rmtree(folder / "model", ignore_errors=True)
    (folder / "done.json").unlink(missing_ok=True)
