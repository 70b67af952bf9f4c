"""`rlpost reward`: a reward model from preference pairs, inside TRL's reward trainer, whose step is replaced whole."""

import copy
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import set_seed
from trl import RewardConfig, RewardTrainer

from rlpost.batches import Encoded, Row, pair, paired
from rlpost.built import training_tasks
from rlpost.config import Config, build
from rlpost.fields import call
from rlpost.models.encode import Bundle
from rlpost.models.positions import position_ids
from rlpost.models.roles import start_from, with_adapter
from rlpost.models.scalar import score_adapter, with_score_head
from rlpost.run.evaluations import note_data
from rlpost.run.folder import RunFolder
from rlpost.step import Summed
from rlpost.trainers.arguments import epochs_to_steps, training_arguments, world_size
from rlpost.trainers.supervised import HeldOutLoss, HeldOutPairs, Part, Supervised, fit, held_out_tasks
from rlpost.types import Prompt, ScoreBatch, Task
from rlpost.usable import max_bad


class RewardModel(Supervised, RewardTrainer):
    """Scores prompt and answer as one sequence, both answers of a pair in one padded batch."""

    def __init__(self, bundle: Bundle, cfg: Config, args: RewardConfig, tasks: Sequence[Task]):
        super().__init__(
            model=bundle.model,
            args=args,
            train_dataset=Dataset.from_dict({"chosen_ids": [[0]], "rejected_ids": [[0]]}),
            processing_class=bundle.encoder.tokenizer,
        )
        self.encoder = bundle.encoder
        self.loss_of_scores = build(cfg.tree["reward_model"])
        self.rows = self.encoded(tasks, cfg)

    def encoded(self, tasks: Sequence[Task], cfg: Config) -> Encoded:
        """Rows of the tasks that have a chosen and a rejected answer."""
        return Encoded(
            paired(tasks), partial(pair, self.encoder), max_length=self.args.max_length, max_bad=max_bad(cfg.tree)
        )

    def rows_loss(self, model: Any, part: Part) -> tuple[Tensor, dict[str, Summed]]:
        """The loss of the scores, each pair with weight 1 / pairs of the whole step."""
        batch = self.batch(model, part)
        found = call(self.loss_of_scores, batch, {"counts": part.counts})
        share = found.value.sum() / part.counts.pairs
        shown = {**found.metrics, "score/chosen": batch.chosen_score, "score/rejected": batch.rejected_score}
        pairs = torch.tensor(float(len(part.rows)))
        metrics = {name: Summed(values.detach().sum(), pairs) for name, values in shown.items()}
        return share, {
            **metrics,
            "reward_model/loss": Summed(share.detach(), torch.tensor(1 / part.counts.micro_batches)),
        }

    def batch(self, model: Any, part: Part) -> ScoreBatch:
        """The scores of both answers, and the margins where the dataset has them."""
        scores = self._scores(model, part.rows)
        n, margins = len(part.rows), [row.margin for row in part.rows]
        return ScoreBatch(
            chosen_score=scores[:n],
            rejected_score=scores[n:],
            margin=None if None in margins else torch.tensor(margins, device=scores.device),
        )

    def margins(self, part: Part) -> list[float]:
        """How much higher the chosen answer of each pair scores."""
        scores = self._scores(self.model, part.rows)
        n = len(part.rows)
        return (scores[:n] - scores[n:]).tolist()

    def idle(self, model: Any) -> Tensor:
        """Zero, through the model."""
        scores = self._forward(model, [Prompt([self.encoder.stop_ids[0]], [0])])
        return scores.sum() * 0.0 + sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0

    def save_final(self, path: str) -> None:
        """The whole model: adapters are merged, because a head without its trunk scores nothing."""
        if not hasattr(self.model, "merge_and_unload"):
            super().save_final(path)
        elif self.accelerator.is_main_process:
            copy.deepcopy(self.accelerator.unwrap_model(self.model)).merge_and_unload().save_pretrained(path)
            self.encoder.tokenizer.save_pretrained(path)

    def _scores(self, model: Any, rows: Sequence[Row]) -> Tensor:
        whole = [
            Prompt(row.prompt.ids + row.answers[k].tokens, row.prompt.kinds + [0] * len(row.answers[k].tokens))
            for k in (0, 1)
            for row in rows
        ]
        return self._forward(model, whole)

    def _forward(self, model: Any, sequences: Sequence[Prompt]) -> Tensor:
        inputs = {name: value.to(self.accelerator.device) for name, value in self.encoder.collate(sequences).items()}
        return model(**inputs, position_ids=position_ids(self.model, inputs), use_cache=False).logits[:, 0].float()


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Train; return the loss at both ends, held-out loss and accuracy on pairs before and after, and minutes."""
    begin = time.monotonic()
    set_seed(cfg.tree["seed"])
    tasks = paired(training_tasks(cfg.tree, folder.path))
    note_data(folder, tasks)
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    bundle.model = with_score_head(bundle, seed=cfg.tree["seed"])
    bundle.model = with_adapter(bundle.model, score_adapter(cfg.tree.get("peft")))
    trainer = RewardModel(bundle, cfg, arguments(cfg, folder, len(tasks)), tasks)
    test = held_out_tasks(cfg)
    rows = trainer.encoded(test, cfg) if test else None
    measures = [HeldOutLoss(trainer, rows), HeldOutPairs(trainer, rows)]
    return fit(trainer, cfg, folder, "Reward model", begin=begin, measures=measures)


def arguments(cfg: Config, folder: RunFolder, tasks: int) -> RewardConfig:
    """TRL's configuration; its own loss is never called."""
    trainer = cfg.tree["trainer"]
    per_step = int(trainer["per_device_train_batch_size"]) * int(trainer.get("gradient_accumulation_steps", 1))
    return training_arguments(RewardConfig, cfg, folder, max_steps=epochs_to_steps(cfg, tasks, per_step * world_size()))
