"""A critic beside the policy of a GRPO run: what it says of rows, how it learns, and its place in a checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from rlpost import rows
from rlpost.errors import ConfigError, RlpostError
from rlpost.likelihood.scoring import spread
from rlpost.schedule import value as value_of
from rlpost.step import Coefficient, Summed, coefficient
from rlpost.trainers.sharing import is_sharded
from rlpost.types import Mask, Scored


class Critic:
    """The network that `option` makes of the policy, with an optimizer of its own that steps when the policy's does.

    `trainer` lays rows out and knows ranks and clock. Losses are divided by the tokens of the whole step, so that the
    sum of the gradients over micro-batches and ranks is that of their mean.
    """

    def __init__(self, option: Any, coef: Coefficient, trainer: Any):
        if is_sharded(trainer.accelerator):
            raise ConfigError("critic: a critic is not sharded with the policy; use launch=torchrun, or critic=null")
        self.option, self.coef, self.trainer = option, coef, trainer
        self.network = option.network(trainer.model)
        if trainer.args.activation_checkpointing:
            self.network.trunk.activation_checkpointing_enable()
        self.own = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.own.values(), lr=0.0, weight_decay=0.0)
        self._learnt = False  # whether a token of this step, on any rank, teaches it
        trainer.add_callback(_Step(self))

    def looks_at(self, table: Scored) -> Mask:
        """The tokens before which it says a value."""
        return self.option.looks_at(table.mask, table.length)

    @torch.no_grad()
    def values(self, item: rows.MicroBatch) -> Tensor:
        """What it says of the tokens of the item's mask now, on the CPU; NaN for the others."""
        self.network.eval()
        mask = item.scored.mask
        found = self._values(item, mask).cpu()
        return torch.full(mask.shape, torch.nan).masked_scatter(mask, found.float())

    def learn(self, item: rows.MicroBatch) -> dict[str, Summed]:
        """Add the gradient of a micro-batch's value loss; returns its metrics. Nothing where no token has a return."""
        self._learnt |= item.counts.valued > 0
        part = torch.tensor(1 / max(item.counts.micro_batches, 1))
        returns, old = item.scored.returns, item.scored.value
        seen = ~torch.isnan(returns) if item.rollouts and returns is not None else torch.zeros(1, 0, dtype=torch.bool)
        if returns is None or old is None or not seen.any():
            return {"value_loss": Summed(torch.zeros(()), part)} if item.rollouts else {}
        self.network.train()
        value = spread(self._values(item, seen), seen.to(self.trainer.accelerator.device))
        known = seen.to(value.device)
        returns, old = (torch.where(seen, table, 0.0).to(value.device) for table in (returns, old))
        found = self.option.loss(value, old, returns)
        share = torch.where(known, found.value, 0.0).sum() / item.counts.valued
        if not torch.isfinite(share):
            raise RlpostError(
                f"the value loss of step {self._number} is {float(share)}; lower critic.learning_rate or look at the "
                "rewards of this step"
            )
        (coefficient(self.coef, *self._now, name="critic") * share).backward()
        metrics = {name: Summed(of[known].sum(), known.sum()) for name, of in found.metrics.items()}
        return {"value_loss": Summed(share.detach(), part), **metrics}

    def step(self) -> None:
        """Add the ranks' gradients up and follow them; a step that taught nothing moves nothing."""
        if not self._learnt:
            return
        own = list(self.own.values())
        for p in own:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        if self.trainer.accelerator.num_processes > 1:
            flat = torch.cat([p.grad.flatten() for p in own if p.grad is not None])
            torch.distributed.all_reduce(flat)
            for p, part in zip(own, flat.split([p.numel() for p in own]), strict=True):
                p.grad = part.view_as(p).to(p.dtype)
        norm = torch.nn.utils.clip_grad_norm_(own, self.option.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = value_of(self.option.learning_rate, *self._now)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._learnt = False
        self.trainer.record({"value_grad_norm": float(norm)})

    def state_dict(self) -> dict[str, Any]:
        """The weights that train, and the optimizer's state."""
        weights = {name: p.detach().cpu() for name, p in self.own.items()}
        found = self.optimizer.state_dict()
        # On the CPU, so that a checkpoint also opens on a machine without this run's devices.
        state = {i: {name: _cpu(x) for name, x in one.items()} for i, one in found["state"].items()}
        return {"weights": weights, "optimizer": {**found, "state": state}}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises ConfigError where it holds no critic of this shape."""
        saved = state.get("weights", {})
        if {name: p.shape for name, p in saved.items()} != {name: p.shape for name, p in self.own.items()}:
            raise ConfigError("critic: the checkpoint holds no critic of this run's shape; continue with its own pick")
        for name, p in self.own.items():
            p.copy_(saved[name])
        self.optimizer.load_state_dict(state["optimizer"])

    @property
    def _number(self) -> int:
        return self.trainer.state.global_step

    @property
    def _now(self) -> tuple[int, float]:
        return self.trainer.clock(self._number), self.trainer._progress(self._number)

    def _values(self, item: rows.MicroBatch, mask: Mask) -> Tensor:
        device = self.trainer.accelerator.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.trainer.accelerator.mixed_precision == "bf16"):
            return self.network(self.trainer._rows(item, mask)).float()


def _cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


class _Step(TrainerCallback):
    """The critic's optimizer steps when the policy's is about to."""

    def __init__(self, critic: Critic):
        self.critic = critic

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.critic.step()


def explained_variance(table: Scored) -> dict[str, float]:
    """1 - var(returns - value) / var(returns) over the tokens with a return; nothing where returns do not vary."""
    if table.returns is None or table.value is None:
        return {}
    known = ~torch.isnan(table.returns)
    returns, rest = table.returns[known], (table.returns - table.value)[known]
    if len(returns) < 2 or float(returns.var()) == 0.0:
        return {}
    return {"explained_variance": 1.0 - float(rest.var() / returns.var())}
