"""Several processes: start the same command again under torchrun or accelerate; its ranks do not relaunch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rlpost import catalogue
from rlpost.config import Config
from rlpost.errors import ConfigError, RlpostError

LAUNCHERS = ("local", "torchrun", "accelerate")


def wanted(cfg: Config) -> bool:
    """True where `launch` asks for a launcher and this process is not one of its ranks."""
    node = cfg.tree.get("launch") or {}
    return node.get("launcher", "local") != "local" and "LOCAL_RANK" not in os.environ


def relaunch(cfg: Config) -> dict[str, Any]:
    """Run the command under its launcher and return what its run folder says in the end."""
    folder = _folder(cfg)
    arguments = [*cfg.overrides] if cfg.tree.get("resume") else [*cfg.overrides, f"run.dir='{folder}'"]
    code = subprocess.run([*_prefix(cfg), "-m", "rlpost", cfg.command, *arguments], check=False).returncode
    done = folder / "done.json"
    outcome = json.loads(done.read_text(encoding="utf-8")) if done.is_file() else {}
    if code != 0:
        error = RlpostError(outcome.get("message") or f"the launcher ended with exit code {code}; its output is above")
        error.exit_code = int(outcome.get("exit_code") or 1)
        raise error
    return outcome


def _prefix(cfg: Config) -> list[str]:
    node = cfg.tree["launch"]
    processes = str(node["num_processes"])
    if node["launcher"] == "torchrun":
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes]
    if node["launcher"] == "accelerate":
        settings = Path(str(node["config"]))
        place = settings if settings.is_absolute() else catalogue.recipes_dir() / "launch" / settings
        if not place.is_file():
            raise ConfigError(f"launch.config={settings} is no file; give the path of an accelerate configuration")
        module = ["-m", "accelerate.commands.launch"]
        return [sys.executable, *module, "--config_file", str(place), "--num_processes", processes]
    raise ConfigError(f"launch.launcher={node['launcher']!r} must be one of {', '.join(LAUNCHERS)}")


def _folder(cfg: Config) -> Path:
    """The run folder, decided here: all ranks must know it."""
    if cfg.tree.get("resume"):
        return Path(cfg.tree["resume"])
    run = cfg.tree.get("run") or {}
    name = run.get("name") or "-".join(cfg.picks.get("recipe", [])) or "run"
    return Path(run.get("dir") or Path("runs") / f"{cfg.command}-{name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
