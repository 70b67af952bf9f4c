"""How rows are scored in a GRPO run: with the policy for the loss and beforehand, and with the reference."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlpost import rows
from rlpost.errors import ConfigError, ModelError
from rlpost.likelihood.scoring import Ask, Rows, against, head_weight, is_seeded
from rlpost.likelihood.seeds import seed_of
from rlpost.models.encode import Encoder
from rlpost.models.roles import Reference
from rlpost.models.teacher import Teacher
from rlpost.trainers.parts import Parts
from rlpost.trainers.sharing import Sharing
from rlpost.types import Prompt, TokenBatch

SCORED_FIELDS = (
    "group", "gen_logp", "reward", "length", "role", "stop", "turn", "trajectory", "index", "age", "span", "source",
    "teacher_logp", "value", "returns",
)  # fmt: skip


class Scores:
    """Mixin of the GRPO trainer: `_batch` gives the record that the pure step reads."""

    # What the trainer provides.
    args: Any
    accelerator: Any
    encoder: Encoder
    parts: Parts
    model: Any
    reference: Reference | None
    teacher: Teacher | None
    sharing: Sharing
    phase: Callable[..., Any]
    _draw: int

    def _batch(self, model: Any, item: rows.MicroBatch) -> TokenBatch:
        """The record that the pure step reads: the rows scored with a policy, beside what was scored beforehand."""
        ref_logp, inputs = self._frozen(item, self._rows(item, item.scored.mask))
        if "teacher_divergence" in self.parts.reads:
            inputs = self._taught(item, inputs)
        found = self.parts.likelihood(model, inputs)
        table, device = item.scored, found.logp.device
        return TokenBatch(
            tokens=table.tokens.to(device),
            mask=table.mask.to(device),
            logp=found.logp,
            entropy=found.entropy,
            old_logp=_first(item.logps.get("old_logp"), table.old_logp, found.logp).to(device).detach(),
            old_entropy=_first(item.logps.get("old_entropy"), table.old_entropy, found.entropy).to(device).detach(),
            ref_logp=ref_logp,
            ref_divergence=found.divergence if "ref_divergence" in self.parts.reads else None,
            teacher_divergence=found.divergence if "teacher_divergence" in self.parts.reads else None,
            advantage=table.advantage.to(device),
            **{name: _to(getattr(table, name), device) for name in SCORED_FIELDS},
        )

    def _frozen(self, item: rows.MicroBatch, inputs: Rows) -> tuple[Tensor | None, Rows]:
        """What the reference says of the rows, computed once per micro-batch until the reference moves.

        Where a divergence to it is read, the rows come back with that question.
        """
        diverges = self.parts.divergence if "ref_divergence" in self.parts.reads else None
        if self.reference is None or ("ref_logp" in item.logps and diverges is None):
            return item.logps.get("ref_logp"), inputs
        with self.phase("reference"), self.reference.use() as model:
            found = self.parts.likelihood(model, inputs)
            asked = against(inputs.ask, diverges, model, found.hidden) if diverges else inputs.ask
        item.logps["ref_logp"] = found.logp
        return found.logp, Rows(inputs.inputs, asked)

    def _taught(self, item: rows.MicroBatch, inputs: Rows) -> Rows:
        """The same rows, with the question how far the policy is from the teacher's distributions."""
        if self.teacher is None or self.parts.divergence is None:
            raise ConfigError(
                "teacher_divergence is read without a teacher or without a divergence; check the run first"
            )
        with self.phase("reference"):
            model, states = self.teacher.predicting(item.rollouts, item.scored.mask)
        words, own = len(head_weight(model)), len(head_weight(self.model))
        if words != own:
            raise ModelError(f"models.teacher knows {words} tokens and the policy {own}; name a teacher of its family")
        device = self.accelerator.device
        asked = against(inputs.ask, self.parts.divergence, model, states.to(device))
        bias = asked.other_bias
        asked = replace(
            asked, other_head=asked.other_head.to(device), other_bias=None if bias is None else bias.to(device)
        )
        return Rows(inputs.inputs, asked)

    def _rows(self, item: rows.MicroBatch, mask: Tensor) -> Rows:
        """Model inputs: one row per prompt where the model can and it pays, otherwise one row per completion."""
        prompts, answers = [r.prompt for r in item.rollouts], [r.tokens for r in item.rollouts]
        draws = is_seeded(self.parts.likelihood)
        seeds = [seed_of(r, self.args.seed, self._draw) for r in item.rollouts] if draws else []
        return self.sharing.rows(prompts, answers, mask, self.accelerator.device, seeds)

    def _logp(self, model: Any, item: rows.MicroBatch) -> tuple[Tensor, Tensor]:
        training = model.training
        model.eval()
        with torch.no_grad():
            found = self.parts.likelihood(model, self._rows(item, item.scored.mask))
        model.train(training)
        return found.logp, found.entropy

    def idle(self, model: Any) -> Tensor:
        """A loss of zero that touches every parameter, so that all ranks take part in the gradient exchange."""
        pad = self.encoder.pad_id
        inputs = self.encoder.collate([Prompt([pad], [0])], [[pad]])
        inputs = {name: value.to(self.accelerator.device) for name, value in inputs.items()}
        ask = Ask(torch.ones(1, 1, dtype=torch.bool, device=self.accelerator.device))
        idle = sum(p.sum() for p in model.parameters() if p.requires_grad)
        return model(**inputs, ask=ask).logp.sum() * 0.0 + idle * 0.0


def _first(*values: Tensor | None) -> Tensor:
    return next(value for value in values if value is not None)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value
