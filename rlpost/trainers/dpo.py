"""`rlpost dpo`: any preference loss on pairs, inside TRL's DPO trainer, whose step is replaced whole."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, set_seed
from trl import DPOConfig, DPOTrainer

from rlpost import assemble
from rlpost.batches import PAIR_FACTS, Encoded, pair, paired, without
from rlpost.built import training_tasks
from rlpost.config import Config, build
from rlpost.errors import DataError
from rlpost.fields import call, reads
from rlpost.likelihood.scoring import teach
from rlpost.masked import row_sum
from rlpost.models.encode import Bundle
from rlpost.models.roles import reference, start_from, with_adapter
from rlpost.run.evaluations import note_data
from rlpost.run.folder import RunFolder
from rlpost.step import Summed
from rlpost.trainers.arguments import epochs_to_steps, training_arguments, world_size
from rlpost.trainers.heldout import HeldOut
from rlpost.trainers.sharing import Sharing
from rlpost.trainers.supervised import HeldOutLoss, HeldOutPairs, Part, Supervised, fit, held_out_tasks
from rlpost.types import PairBatch, Task
from rlpost.usable import max_bad

REFERENCE = {"ref_chosen_logp", "ref_rejected_logp"}
SHOWN = {"chosen_reward": "rewards/chosen", "rejected_reward": "rewards/rejected"}


class Dpo(Supervised, DPOTrainer):
    """Scores both answers of a pair in one padded batch; the reference is the policy as it was at the start."""

    def __init__(self, bundle: Bundle, cfg: Config, args: DPOConfig, tasks: Sequence[Task]):
        # Without a reference TRL would read one from disk, or copy the adapter; this one only fills the argument.
        unused = LlamaForCausalLM(
            LlamaConfig(vocab_size=4, hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1)
        )
        super().__init__(
            model=bundle.model,
            ref_model=unused,
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""], "chosen": [""], "rejected": [""]}),
            processing_class=bundle.encoder.tokenizer,
        )
        self.ref_model = None
        teach(self.model)
        self.encoder = bundle.encoder
        self.preference = build(cfg.tree["preference"])
        self.likelihood = build(cfg.tree["likelihood"])
        self.sharing = Sharing(
            self.model, self.encoder, cfg.tree.get("kernels"), self.likelihood, accelerator=self.accelerator
        )
        self.reference = reference(self.model, cfg.tree) if REFERENCE & set(reads(self.preference)) else None
        self.facts = facts_of(self.preference)
        self.rows = self.encoded(tasks, cfg)

    def encoded(self, tasks: Sequence[Task], cfg: Config) -> Encoded:
        """Rows of the tasks that have a chosen and a rejected answer."""
        return Encoded(
            paired(tasks), partial(pair, self.encoder), max_length=self.args.max_length, max_bad=max_bad(cfg.tree)
        )

    def rows_loss(self, model: Any, part: Part) -> tuple[Tensor, dict[str, Summed]]:
        """The preference loss, each pair with weight 1 / pairs of the whole step, and what it says of the pairs."""
        batch = self.batch(model, part)
        found = call(self.preference, batch, {"counts": part.counts})
        share = (found.value * batch.weight).sum()
        shown = {
            **{SHOWN.get(name, name): values for name, values in found.metrics.items()},
            "logp/chosen": row_sum(batch.chosen_logp, batch.chosen_mask),
            "logp/rejected": row_sum(batch.rejected_logp, batch.rejected_mask),
        }
        pairs = torch.tensor(float(len(part.rows)))
        metrics = {name: Summed(values.detach().sum(), pairs) for name, values in shown.items()}
        return share, {
            **metrics,
            "preference/loss": Summed(share.detach(), torch.tensor(1 / part.counts.micro_batches)),
        }

    def batch(self, model: Any, part: Part) -> PairBatch:
        """The record that the loss reads; chosen answers are the first half of the scored rows."""
        n = len(part.rows)
        rows = self.scored_rows(
            [row.prompt for row in part.rows] * 2, [row.answers[k] for k in (0, 1) for row in part.rows]
        )
        reference = None
        if self.reference is not None:
            with self.phase("reference"), self.reference.use() as frozen:
                reference = self.likelihood(frozen, rows).logp
        logp, mask = self.likelihood(model, rows).logp, rows.ask.mask
        margins = [row.margin for row in part.rows]
        return PairBatch(
            chosen_logp=logp[:n],
            rejected_logp=logp[n:],
            chosen_mask=mask[:n],
            rejected_mask=mask[n:],
            ref_chosen_logp=reference[:n] if reference is not None else None,
            ref_rejected_logp=reference[n:] if reference is not None else None,
            margin=None if None in margins else torch.tensor(margins, device=logp.device),
            weight=torch.full((n,), 1 / part.counts.pairs, device=logp.device),
            **{name: torch.tensor([row.facts[name] for row in part.rows], device=logp.device) for name in self.facts},
        )

    def margins(self, part: Part) -> list[float]:
        """How much more the policy prefers the chosen answer of each pair than the reference does, in nats."""
        batch = self.batch(self.model, part)
        chosen, rejected = (
            row_sum(batch.chosen_logp, batch.chosen_mask),
            row_sum(batch.rejected_logp, batch.rejected_mask),
        )
        if batch.ref_chosen_logp is not None and batch.ref_rejected_logp is not None:
            chosen = chosen - row_sum(batch.ref_chosen_logp, batch.chosen_mask)
            rejected = rejected - row_sum(batch.ref_rejected_logp, batch.rejected_mask)
        return (chosen - rejected).tolist()

    def idle(self, model: Any) -> Tensor:
        """Zero, through the model."""
        return self.idle_tokens(model)


def facts_of(preference: Any) -> list[str]:
    """The numbers per pair that a loss reads."""
    return [name for name in reads(preference) if name in PAIR_FACTS]


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Train; return the loss at both ends, held-out loss, ranking of pairs and accuracy, and minutes."""
    begin = time.monotonic()
    set_seed(cfg.tree["seed"])
    tasks = paired(training_tasks(cfg.tree, folder.path))
    note_data(folder, tasks)
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    bundle.model = with_adapter(bundle.model, cfg.tree.get("peft"))
    trainer = Dpo(bundle, cfg, arguments(cfg, folder, len(tasks)), tasks)
    test = held_out_tasks(cfg)
    rows = trainer.encoded(test, cfg) if test else None
    lost = without(tasks, trainer.facts)
    if lost:
        raise DataError(
            f"{lost}, which preference={cfg.tree['preference']['_target_']} reads; pick a build that gives it"
        )
    measures = [
        HeldOutLoss(trainer, None if without(test, trainer.facts) else rows),
        HeldOutPairs(trainer, rows, only="after"),  # before, policy and reference are equal: every margin is 0
        HeldOut(cfg, bundle, assemble.reward_stack(cfg.tree), assemble.sampling(cfg.tree["rollout"]), folder),
    ]
    return fit(trainer, cfg, folder, "DPO", begin=begin, measures=measures)


def arguments(cfg: Config, folder: RunFolder, tasks: int) -> DPOConfig:
    """TRL's configuration; its own losses and references are held at values that compute nothing."""
    trainer = cfg.tree["trainer"]
    per_step = int(trainer["per_device_train_batch_size"]) * int(trainer.get("gradient_accumulation_steps", 1))
    return training_arguments(
        DPOConfig,
        cfg,
        folder,
        max_steps=epochs_to_steps(cfg, tasks, per_step * world_size()),
        precompute_ref_log_probs=False,
        sync_ref_model=False,
    )
