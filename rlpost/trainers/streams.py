"""Auxiliary streams: demonstrations beside the rollouts, with a loss, counts and an order of their own, in one step."""

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from rlpost import assemble, step
from rlpost.batches import MAX_BAD, Encoded, demonstrated, demonstration
from rlpost.config import build
from rlpost.errors import ConfigError, DataError
from rlpost.fields import REFERENCE
from rlpost.models.encode import Encoder
from rlpost.rows import MicroBatch
from rlpost.step import Summed
from rlpost.trainers.seams import gathered
from rlpost.trainers.sharing import Sharing
from rlpost.trainers.supervised import Part, counts_of, demonstration_batch, held_against, laid_out
from rlpost.types import Outcome, Task


class Stream:
    """One stream: the demonstrations of `data` (None: of the run's own tasks), dealt to steps by a curriculum.

    Raises DataError where no task has a demonstration.
    """

    def __init__(
        self, name: str, node: Mapping[str, Any], tree: Mapping[str, Any], tasks: Sequence[Task], encoder: Any
    ):
        self.name, self.per_step = name, int(node["rows"])
        data = node.get("data")
        try:
            self.tasks = demonstrated(build(data)("train") if data else tasks)
        except DataError as error:
            raise DataError(f"aux.{name}: {error}") from error
        self.method = assemble.stream(name, node)
        self.rows = Encoded(
            self.tasks,
            partial(demonstration, encoder),
            max_length=node.get("max_length"),
            max_bad=float((data or tree["dataset"]).get("max_bad", MAX_BAD)),
            knob=f"aux.{name}.max_length",
        )
        self.curriculum: Any = build(node["curriculum"])
        if hasattr(self.curriculum, "prepare"):
            raise ConfigError(f"aux.{name}.curriculum looks at the data with a model first, which only rollouts offer")
        self.curriculum.start(self.tasks)
        self.rng = random.Random(f"{tree['seed']}/{name}")

    def state_dict(self) -> dict[str, Any]:
        """Where the order is."""
        version, internal, gauss = self.rng.getstate()
        state = {"per_step": self.per_step, "curriculum": self.curriculum.state_dict()}
        return {**state, "rng": [version, list(internal), gauss]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. Raises ConfigError for another number of rows a step."""
        if state["per_step"] != self.per_step:
            raise ConfigError(
                f"the checkpoint was made with aux.{self.name}.rows={state['per_step']}, not {self.per_step}; continue "
                "with the same number"
            )
        self.curriculum.load_state_dict(state["curriculum"])
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))


class Streams:
    """All streams of a GRPO run. `trainer` scores: its model, likelihood, reference, ranks and clock are used.

    Demonstrations are scored at temperature 1 and one row each, since no two of them share a prompt.
    """

    def __init__(self, trainer: Any, tree: Mapping[str, Any], tasks: Sequence[Task], encoder: Encoder):
        self.trainer = trainer
        self.all = [Stream(name, node, tree, tasks, encoder) for name, node in (tree.get("aux") or {}).items()]
        self.likelihood = trainer.parts.likelihood
        self.sharing = Sharing(trainer.model, encoder, {"prefix": "off"}, self.likelihood)

    def reads(self) -> set[str]:
        """Every field that the loss of a stream reads."""
        return {name for stream in self.all for name in stream.method.reads()}

    def observe(self, outcomes: Sequence[Outcome], metrics: Mapping[str, float]) -> None:
        """Tell the curricula of the streams how the groups of new rollouts went."""
        for stream in self.all:
            stream.curriculum.observe(outcomes, metrics)

    def deal(self, items: Sequence[MicroBatch]) -> None:
        """Give the micro-batches of an optimizer step their rows; counts span all micro-batches and ranks."""
        accelerator = self.trainer.accelerator
        rank, ranks, micro = accelerator.process_index, accelerator.num_processes, len(items)
        for stream in self.all:
            chosen = stream.curriculum.pick(stream.per_step, stream.rng)
            ends = [round(i * len(chosen) / (ranks * micro)) for i in range(ranks * micro + 1)]
            with self.trainer.phase("encode"):
                mine = [
                    stream.rows.rows(chosen[ends[k] : ends[k + 1]]) for k in range(rank * micro, (rank + 1) * micro)
                ]
            shares = gathered([[row.trained for row in rows] for rows in mine], accelerator)
            filled = [part for share in shares for part in share if part]
            counts = counts_of([n for part in filled for n in part], len(filled))
            for item, rows in zip(items, mine, strict=True):
                item.aux[stream.name] = Part(rows, counts)

    def add(
        self, model: Any, item: MicroBatch, loss: Tensor, metrics: dict[str, Summed]
    ) -> tuple[Tensor, dict[str, Summed]]:
        """A micro-batch's loss and metrics with those of the streams' rows in it.

        A rank without rows of a stream that has some elsewhere looks at the model too: sharded ones count the passes.
        """
        for stream in self.all:
            part = item.aux[stream.name]
            if part.rows:
                extra, more = self._loss(model, stream, part)
                loss, metrics = loss + extra, {**metrics, **more}
            elif part.counts.rows:
                loss = loss + self.trainer.idle(model)
        return loss, metrics

    def _loss(self, model: Any, stream: Stream, part: Part) -> tuple[Tensor, dict[str, Summed]]:
        trainer, number = self.trainer, self.trainer.state.global_step
        prompts, answers = [row.prompt for row in part.rows], [row.answers[0] for row in part.rows]
        rows = laid_out(self.sharing, prompts, answers, trainer.accelerator.device)
        ref_logp = None
        if trainer.reference is not None and stream.method.reads() & REFERENCE:
            with trainer.phase("reference"):
                ref_logp, rows = held_against(trainer.reference, self.likelihood, trainer.parts.divergence, rows)
        batch = demonstration_batch(part.rows, self.likelihood(model, rows), ref_logp)
        progress = number / max(1, trainer.args.max_steps)
        loss, found = step.loss(batch, stream.method, part.counts, step=trainer.clock(number), progress=progress)
        term = stream.method.objective.name
        metrics = {name if name.startswith(term) else f"{term}/{name}": value for name, value in found.items()}
        metrics[f"{term}/logp"] = Summed((batch.logp.detach() * batch.mask).sum(), batch.mask.sum())
        return loss, metrics

    def state_dict(self) -> dict[str, Any]:
        """The state of every stream by name."""
        return {stream.name: stream.state_dict() for stream in self.all}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned. Raises ConfigError where the run has other streams."""
        names = [stream.name for stream in self.all]
        if list(state) != names:
            there, here = (", ".join(some) or "none" for some in (state, names))
            raise ConfigError(f"the checkpoint has the streams {there}, this run {here}; continue with the same aux")
        for stream in self.all:
            stream.load_state_dict(state[stream.name])
