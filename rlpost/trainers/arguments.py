"""TRL's configuration objects from `cfg.tree["trainer"]`, and the fields that rlpost sets itself."""

import os
from pathlib import Path
from typing import Any

import torch

from rlpost.config import Config
from rlpost.errors import ConfigError
from rlpost.run.folder import RunFolder

# Keys of `trainer` that are rlpost's own, not TRL's.
OWN = ("keep_checkpoints", "max_minutes", "optimizer_from")


def training_arguments(kind: type, cfg: Config, folder: RunFolder, *, max_steps: int, **owned: Any) -> Any:
    """`kind(**trainer fields, **what rlpost owns)`. Raises ConfigError where TRL or transformers refuses a value."""
    chosen = {name: value for name, value in cfg.tree["trainer"].items() if name not in OWN}
    report_to = (cfg.tree.get("logger") or {}).get("report_to") or "none"
    fields = {
        **chosen,
        **owned,
        "max_steps": max_steps,
        "output_dir": str(folder.checkpoints),
        "logging_dir": str(folder.path / "logs"),
        "report_to": report_to,
        "seed": cfg.tree["seed"],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "logging_nan_inf_filter": False,
        "use_cpu": not torch.cuda.is_available(),
    }
    known = getattr(kind, "__dataclass_fields__", {})
    try:
        return kind(**{name: value for name, value in fields.items() if name in known})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"trainer: {error}") from error


def epochs_to_steps(cfg: Config, tasks: int, tasks_per_step: int) -> int:
    """Optimizer steps: `trainer.max_steps` where it is positive, otherwise the epochs over all tasks, rounded up."""
    chosen = int(cfg.tree["trainer"].get("max_steps", -1) or -1)
    if chosen > 0:
        return chosen
    epochs = float(cfg.tree["trainer"].get("num_train_epochs", 1))
    return max(1, round(epochs * -(-tasks // tasks_per_step)))


def world_size() -> int:
    """Number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def newest_checkpoint(cfg: Config, folder: RunFolder) -> str | None:
    """The checkpoint that `resume` continues from, and a sentence for each that was skipped; None to start anew."""
    from rlpost.run import checkpoint

    if not cfg.tree.get("resume"):
        return None
    found = checkpoint.latest(Path(folder.checkpoints))
    for sentence in found.skipped:
        print(sentence, flush=True)
    return None if found.path is None else str(found.path)
