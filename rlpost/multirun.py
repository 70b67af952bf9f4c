"""`rlpost <verb> -m`: a sweep by Hydra's sweepers and launchers; each job has a run folder with a done.json."""

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from rlpost.errors import ConfigError, Interrupted, RlpostError
from rlpost.run import files, lock, redact
from rlpost.sweep import sweep_plan

PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "submitit_local": "hydra_submitit_launcher",
    "submitit_slurm": "hydra_submitit_launcher",
    "optuna": "hydra_optuna_sweeper",
}


BARE = {"config.yaml", "overrides.txt", "environment.json", "done.json", "ledger.json", "checkpoints", lock.NAME}


class JobFailed(RuntimeError):
    """A job of a sweep failed; Hydra sees an ordinary exception, `done.json` of the job has the facts."""


def sweep(command: str, overrides: list[str]) -> None:
    """Check every value first, run the sweep in a process of Hydra's, then say how each job ended.

    Raises the error of the first failed job, after the table of all jobs.
    """
    plan = sweep_plan(command, overrides)
    folder = Path(plan.folder or Path("runs") / f"sweep-{command}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    given = [*plan.overrides, *([] if plan.folder else [f"hydra.sweep.dir='{folder}'"]), *_defaults(plan.overrides)]
    line = [sys.executable, "-m", "rlpost._hydra_main", command, "--multirun", *given, "hydra.output_subdir=null"]
    try:
        code = subprocess.run(line, check=False).returncode
    except KeyboardInterrupt:
        code = Interrupted.exit_code
    jobs = outcomes(folder)
    Console().print(table(jobs, plan.swept, folder))
    for job in jobs:
        if job.get("message"):
            print(f"job {job['job']}: {job['message']}", flush=True)
    if code == Interrupted.exit_code:
        raise Interrupted(
            f"the sweep was interrupted; {len(jobs)} jobs are in {folder}, continue with the same words and "
            f"hydra.sweep.dir={folder}"
        )
    _raise_first(jobs, code, folder)


def _defaults(given: list[str]) -> list[str]:
    """Hydra settings that differ from its own defaults, where the user has not set them; refuses a missing plugin."""
    picked = {text.partition("=")[0]: text.partition("=")[2] for text in given}
    for key in ("hydra/launcher", "hydra/sweeper"):
        module = PLUGINS.get(picked.get(key, ""))
        if module and importlib.util.find_spec(f"hydra_plugins.{module}") is None:
            raise ConfigError(f"{key}={picked[key]} is not installed; pip install 'rlpost[sweeps]'")
    wanted = {"hydra/job_logging": "none"}
    if picked.get("hydra/sweeper") == "optuna":
        wanted["hydra.sweeper.direction"] = "maximize"  # `objective` of every verb: higher is better
    return [f"{key}={value}" for key, value in wanted.items() if key not in picked]


def _raise_first(jobs: list[dict[str, Any]], code: int, folder: Path) -> None:
    bad = [job for job in jobs if job.get("status") != "ok"]
    if not bad and code == 0 and jobs:
        return
    what = f"{len(bad)} of {len(jobs)} jobs failed" if bad else f"the sweep ended with exit code {code}"
    error = RlpostError(f"{what}; see done.json of each job in {folder}")
    error.exit_code = int(bad[0].get("exit_code") or 1) if bad else 1
    raise error


def outcomes(folder: Path) -> list[dict[str, Any]]:
    """What the done.json of every job says, in the order of the jobs; a job without one did not end."""
    places = [path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")]
    found = []
    for place in sorted(places, key=lambda path: (len(path.name), path.name)):
        done, asked = place / "done.json", place / "overrides.txt"
        if done.is_file():
            facts = json.loads(done.read_text(encoding="utf-8"))
        elif asked.is_file():
            facts = {"status": "not finished", "exit_code": 1, "message": "the job has no done.json"}
        else:
            continue
        lines = asked.read_text(encoding="utf-8").splitlines() if asked.is_file() else []
        found.append({"job": place.name, "overrides": lines, **facts})
    return found


def table(jobs: list[dict[str, Any]], swept: list[str], folder: Path) -> Table:
    """A row per job: what was swept, how it ended, and its objective."""
    drawn = Table("job", *swept, "status", "objective", box=box.SIMPLE_HEAD, title=f"sweep {folder}")
    for job in jobs:
        values = {text.lstrip("+").partition("=")[0]: text.partition("=")[2] for text in job["overrides"]}
        objective = job.get("objective")
        shown = f"{objective:.4g}" if isinstance(objective, int | float) else ""
        drawn.add_row(job["job"], *(values.get(key, "") for key in swept), str(job.get("status")), shown)
    return drawn


def run_job(command: str, overrides: list[str], folder: Path) -> float | None:
    """One job inside Hydra: run the verb, leave done.json, raise JobFailed if it failed. Returns the objective.

    In the folder of an earlier sweep a job that ended well is not run again, and one that did not is continued.
    """
    from rlpost.execute import execute

    try:
        before = _before(folder, overrides)
        if before and before.get("status") == "ok":
            print(f"job {folder.name} has ended before, in {folder}", flush=True)
            result = before
        else:
            given = [*overrides, f"run.dir='{folder}'"] if before is None else [f"resume='{folder}'"]
            result = execute(command, given)
    except Exception as error:
        _leave(folder, overrides, error)
        raise JobFailed(f"job {folder.name} ({', '.join(overrides)}): {error}") from error
    objective = result.get("objective")
    return None if objective is None else float(objective)


def _before(folder: Path, overrides: list[str]) -> dict[str, Any] | None:
    """What an earlier sweep left of this job: its outcome, {} of one to continue, None where nothing had begun.

    Raises ConfigError where the folder is that of a job with other overrides.
    """
    asked, begun = folder / "overrides.txt", (folder / "config.yaml").is_file()
    if asked.is_file():
        old, new = _own(asked.read_text(encoding="utf-8").splitlines()), _own(redact.text(text) for text in overrides)
        if old != new:
            raise ConfigError(
                f"{folder} holds a job with other values ({', '.join(old)} instead of {', '.join(new)}); continue a "
                "sweep with the words that began it, or give another hydra.sweep.dir"
            )
        if begun:
            return files.read_json(folder / "done.json") or {}
    if (asked.is_file() or begun) and _bare(folder):
        shutil.rmtree(folder)  # it ended before it had a whole run folder
    return None


def _bare(folder: Path) -> bool:
    """True where a folder holds nothing but what every run writes before it trains: nothing else is taken away."""
    config = folder / "config.yaml"
    if config.is_file() and not config.read_text(encoding="utf-8").startswith("# rlpost "):
        return False
    return {place.name for place in folder.iterdir()} <= BARE and not any((folder / "checkpoints").glob("*"))


def _own(overrides: Iterable[str]) -> list[str]:
    return [text for text in overrides if text and not text.lstrip("+").startswith(("run.dir=", "resume="))]


def _leave(folder: Path, overrides: list[str], error: Exception) -> None:
    """A job that failed before it had a run folder says so in the same two files as one that failed later."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "overrides.txt").is_file():
        files.write(folder / "overrides.txt", "".join(f"{redact.text(text)}\n" for text in overrides))
    if not (folder / "done.json").is_file():
        code = error.exit_code if isinstance(error, RlpostError) else 1
        kind, message = type(error).__name__, str(error) or type(error).__name__
        facts = {"status": "error", "kind": kind, "message": message, "exit_code": code}
        files.write_json(folder / "done.json", redact.tree(facts))
