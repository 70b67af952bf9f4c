"""The optimizer of an earlier run, gone on with: what it remembers of gradients, not its learning rate.

With it goes what the trainer takes over: running averages, the order of the tasks, and the steps that schedules count.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from rlpost import catalogue
from rlpost.errors import ConfigError, ModelError
from rlpost.run import checkpoint, files
from rlpost.trainers.sharing import is_sharded


class GoOn(TrainerCallback):
    """Hands over the moments before the first step; a run that continues has its own in its checkpoint."""

    def __init__(self, trainer: Any, run: str):
        self.trainer, self.run = trainer, run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            place = go_on(self.trainer.optimizer, self.run, self.trainer.accelerator)
            extra = torch.load(place / "rlpost.pt", weights_only=True)["extra"]
            self.trainer.take_over(
                extra, checkpoint.step_of(place), catalogue.read_yaml(Path(self.run) / "config.yaml")
            )


def go_on(optimizer: Any, run: str, accelerator: Any) -> Path:
    """Give `optimizer` the moments and step counts with which the run folder `run` ended; returns its last checkpoint.

    Learning rate, betas and the like stay those of this run. Raises ConfigError where the run did not save its last
    step or the optimizer is sharded, ModelError where the optimizer is of another kind or of another model.
    """
    if is_sharded(accelerator):
        raise ConfigError("trainer.optimizer_from: a sharded optimizer cannot be handed on; use launch=torchrun")
    place = checkpoint.latest(Path(run) / "checkpoints").path
    steps = (files.read_json(Path(run) / "done.json") or {}).get("steps")
    if place is None or checkpoint.step_of(place) != steps:
        raise ConfigError(
            f"trainer.optimizer_from={run} has no checkpoint of its last step; leave trainer.save_strategy=steps there"
        )
    saved = torch.load(place / "optimizer.pt", map_location="cpu", weights_only=True)
    own = optimizer.state_dict()
    problem = _differs(saved, own, [p for group in optimizer.param_groups for p in group["params"]])
    if problem:
        raise ModelError(f"trainer.optimizer_from={run} does not fit this run: {problem}")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})
    return place


def _differs(saved: dict[str, Any], own: dict[str, Any], parameters: list[Any]) -> str | None:
    """Why the saved state is not of this optimizer and these parameters, None where it is."""
    if [set(group) for group in saved["param_groups"]] != [set(group) for group in own["param_groups"]]:
        return "its optimizer is of another kind (trainer.optim)"
    if [len(group["params"]) for group in saved["param_groups"]] != [len(g["params"]) for g in own["param_groups"]]:
        return "it trained other parameters"
    for place, parameter in enumerate(parameters):
        for value in saved["state"].get(place, {}).values():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                return f"a parameter has the shape {tuple(value.shape)} there and {tuple(parameter.shape)} here"
    return None
