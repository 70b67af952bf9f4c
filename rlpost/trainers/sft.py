"""`rlpost sft`: any supervised token loss on demonstrations, inside TRL's SFT trainer, whose step is replaced whole."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from torch import Tensor
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from rlpost import assemble, step
from rlpost.batches import Encoded, demonstrated, demonstration
from rlpost.built import training_tasks
from rlpost.config import Config, build
from rlpost.likelihood.scoring import teach
from rlpost.models.encode import Bundle
from rlpost.models.roles import reference, start_from, with_adapter
from rlpost.run.evaluations import note_data
from rlpost.run.folder import RunFolder
from rlpost.step import Summed
from rlpost.trainers.arguments import epochs_to_steps, training_arguments, world_size
from rlpost.trainers.heldout import HeldOut
from rlpost.trainers.sharing import Sharing
from rlpost.trainers.supervised import (
    HeldOutLoss,
    Part,
    Supervised,
    demonstration_batch,
    fit,
    held_against,
    held_out_tasks,
)
from rlpost.types import Task, TokenBatch
from rlpost.usable import max_bad


class Sft(Supervised, SFTTrainer):
    """Teaches the answers of demonstrations; prompts and other roles' turns are read but never trained on."""

    def __init__(self, bundle: Bundle, cfg: Config, args: SFTConfig, tasks: Sequence[Task]):
        placeholder = Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]})
        super().__init__(
            model=bundle.model, args=args, train_dataset=placeholder, processing_class=bundle.encoder.tokenizer
        )
        teach(self.model)
        self.encoder = bundle.encoder
        self.method = assemble.method(cfg.tree, objective="sft_loss")
        self.likelihood = build(cfg.tree["likelihood"])
        self.sharing = Sharing(self.model, self.encoder, {"prefix": "off"}, self.likelihood)
        self.divergence = build(cfg.tree["divergence"]) if cfg.tree.get("divergence") else None
        self.reference = (
            reference(self.model, cfg.tree) if self.method.reads() & {"ref_logp", "ref_divergence"} else None
        )
        self.rows = self.encoded(tasks, cfg)

    def encoded(self, tasks: Sequence[Task], cfg: Config) -> Encoded:
        """Rows of the tasks that have a demonstration."""
        return Encoded(
            demonstrated(tasks),
            partial(demonstration, self.encoder),
            max_length=self.args.max_length,
            max_bad=max_bad(cfg.tree),
        )

    def rows_loss(self, model: Any, part: Part) -> tuple[Tensor, dict[str, Summed]]:
        """Score the demonstrations with the current policy and hand them to the pure step."""
        batch = self.batch(model, part)
        number = self.state.global_step
        loss, metrics = step.loss(
            batch, self.method, part.counts, step=number, progress=number / max(1, self.args.max_steps)
        )
        mask = batch.mask
        metrics["entropy"] = Summed((batch.entropy.detach() * mask).sum(), mask.sum())
        metrics["logp"] = Summed((batch.logp.detach() * mask).sum(), mask.sum())
        return loss, metrics

    def batch(self, model: Any, part: Part) -> TokenBatch:
        """The rows of a micro-batch as the loss reads them."""
        rows = self.scored_rows([row.prompt for row in part.rows], [row.answers[0] for row in part.rows])
        ref_logp = None
        if self.reference is not None:
            with self.phase("reference"):
                ref_logp, rows = held_against(self.reference, self.likelihood, self.divergence, rows)
        return demonstration_batch(part.rows, self.likelihood(model, rows), ref_logp)

    def idle(self, model: Any) -> Tensor:
        """Zero, through the model."""
        return self.idle_tokens(model)


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Train; return the loss at both ends, held-out loss and accuracy before and after, and minutes."""
    begin = time.monotonic()
    set_seed(cfg.tree["seed"])
    tasks = demonstrated(training_tasks(cfg.tree, folder.path))
    note_data(folder, tasks)
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    bundle.model = with_adapter(bundle.model, cfg.tree.get("peft"))
    trainer = Sft(bundle, cfg, arguments(cfg, folder, len(tasks)), tasks)
    test = held_out_tasks(cfg)
    measures = [
        HeldOutLoss(trainer, trainer.encoded(test, cfg) if test else None),
        HeldOut(cfg, bundle, assemble.reward_stack(cfg.tree), assemble.sampling(cfg.tree["rollout"]), folder),
    ]
    return fit(trainer, cfg, folder, "SFT", begin=begin, measures=measures)


def arguments(cfg: Config, folder: RunFolder, tasks: int) -> SFTConfig:
    """TRL's configuration; what would change the step or the rows is held at values that change nothing."""
    trainer = cfg.tree["trainer"]
    per_step = int(trainer["per_device_train_batch_size"]) * int(trainer.get("gradient_accumulation_steps", 1))
    return training_arguments(
        SFTConfig,
        cfg,
        folder,
        max_steps=epochs_to_steps(cfg, tasks, per_step * world_size()),
        loss_type="nll",
        packing=False,
        padding_free=False,
    )
