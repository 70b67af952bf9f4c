"""What sft, dpo and reward share: steps over encoded rows in seeded epochs, counts, held-out losses, and the run."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from rlpost.batches import Encoded, Row, picks
from rlpost.config import Config, build
from rlpost.errors import ConfigError, DataError, SelfCheckError
from rlpost.likelihood.scoring import Likelihood, Rows, against
from rlpost.models.encode import Answer, Encoder, completion_mask
from rlpost.models.roles import Reference
from rlpost.rows import padded
from rlpost.run.folder import RunFolder
from rlpost.run.progress import Progress, progress
from rlpost.run.tables import interval, paired
from rlpost.step import Summed
from rlpost.trainers.arguments import newest_checkpoint
from rlpost.trainers.seams import OwnStep, gathered
from rlpost.trainers.sharing import Sharing
from rlpost.types import Counts, Prompt, Task, TokenBatch


@dataclass(frozen=True)
class Part:
    """The rows of a micro-batch with the counts of the optimizer step they belong to."""

    rows: list[Row]
    counts: Counts


class Supervised(OwnStep):
    """A step over rows of a dataset. A subclass implements `rows_loss` and `idle`."""

    encoder: Encoder
    rows: Encoded
    sharing: Sharing | None = None  # a subclass that scores tokens sets it

    def rows_loss(self, model: Any, part: Part) -> tuple[Tensor, dict[str, Summed]]:
        """The loss of at least one row, already divided by the counts of the whole step, and its metrics."""
        raise SelfCheckError(f"{type(self).__name__} does not implement rows_loss")

    def idle(self, model: Any) -> Tensor:
        """A loss of zero through the model, so that a rank without rows takes part in the gradient exchange."""
        raise SelfCheckError(f"{type(self).__name__} does not implement idle")

    def micro_batches(self, step: int) -> list[Part]:
        """This rank's share of the step's tasks. Raises DataError where the step has no usable row on any rank."""
        size, micro = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        chosen = picks(len(self.rows), size * micro * ranks, step, self.args.seed)
        with self.phase("encode"):
            starts = range(rank * size * micro, (rank + 1) * size * micro, size)
            parts = [self.rows.rows(chosen[start : start + size]) for start in starts]
        shares = gathered([[row.trained for row in rows] for rows in parts], self.accelerator)
        filled = [part for share in shares for part in share if part]
        counts = counts_of([n for part in filled for n in part], len(filled))
        if not counts.rows:
            raise DataError(f"no row of step {step} can be used; see the causes in {self.folder.path}/ledger.json")
        self.rows_seen += counts.rows
        self.record({"rows": float(counts.rows), "tokens": float(counts.tokens)})
        return [Part(rows, counts) for rows in parts]

    def micro_loss(self, model: Any, item: Part) -> tuple[Tensor, dict[str, Summed]]:
        """The loss of the rows of a micro-batch; zero where all of them were left out."""
        return self.rows_loss(model, item) if item.rows else (self.idle(model), {})

    def extra_state(self) -> dict[str, Any]:
        """What the order of the tasks depends on besides the step number."""
        return {"tasks": len(self.rows), "per_step": self._per_step()}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Refuse to continue on other data or another batch: the rows already seen would not be known."""
        if state != self.extra_state():
            raise ConfigError(
                f"the checkpoint belongs to {state['tasks']} tasks and {state['per_step']} of them a step, this run "
                f"has {len(self.rows)} and {self._per_step()}; continue with the same dataset and batch sizes"
            )

    def parts(self, rows: Encoded) -> list[Part]:
        """All usable rows as the micro-batches of one step, to measure with."""
        found = rows.rows(range(len(rows)))
        size = self.args.per_device_train_batch_size
        starts = range(0, len(found), size)
        counts = counts_of([row.trained for row in found], len(starts))
        return [Part(found[start : start + size], counts) for start in starts]

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """No gradient and no dropout inside; its time is not the step's."""
        training, seconds = self.model.training, self._seconds.copy()
        self.model.eval()
        with torch.no_grad():
            yield
        self.model.train(training)
        self._seconds = seconds

    def scored_rows(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> Rows:
        """Inputs of prompts with their answers; only the assistant's tokens are scored, at temperature 1."""
        if self.sharing is None:
            raise SelfCheckError(f"{type(self).__name__} scores no tokens")
        return laid_out(self.sharing, prompts, answers, self.accelerator.device)

    def idle_tokens(self, model: Any) -> Tensor:
        """`idle` of a model that scores tokens."""
        rows = self.scored_rows([Prompt([self.encoder.pad_id], [0])], [Answer([self.encoder.pad_id], [True])])
        touched = sum(p.sum() for p in model.parameters() if p.requires_grad)
        return model(**rows.inputs, ask=rows.ask).logp.sum() * 0.0 + touched * 0.0

    def save_final(self, path: str) -> None:
        """The trained model (the adapter alone where one was trained) and its tokenizer."""
        self.save_model(path)

    def _per_step(self) -> int:
        args, ranks = self.args, self.accelerator.num_processes
        return args.per_device_train_batch_size * args.gradient_accumulation_steps * ranks

    def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
        """TRL tokenizes here; the placeholder that its constructor wants stays as it is."""
        return dataset


class HeldOutLoss:
    """The loss over held-out rows before and after training, measured without a gradient."""

    def __init__(self, trainer: Supervised, rows: Encoded | None):
        self.trainer, self.rows = trainer, rows
        self.found: dict[str, float] = {}

    def measure(self, when: str, bar: Progress) -> None:
        """Measure now; `when` is "before" or "after"."""
        if self.rows is None:
            return
        with self.trainer.measuring():
            losses = [self.trainer.rows_loss(self.trainer.model, part)[0] for part in self.trainer.parts(self.rows)]
        self.found[when] = float(sum(losses))
        bar.say(f"held-out loss {when}: {self.found[when]:.4f} on {len(self.rows)} tasks")

    def entries(self) -> dict[str, Any]:
        """Rows of the final table, and what a sweep maximises."""
        table = {f"held-out loss {when}": value for when, value in self.found.items()}
        return {"table": table, **({"objective": -self.found["after"]} if self.found else {})}


class HeldOutPairs:
    """Share of held-out pairs whose chosen answer ranks first. `only` restricts it to "before" or "after"."""

    def __init__(self, trainer: Any, rows: Encoded | None, *, only: str | None = None):
        self.trainer, self.rows, self.only = trainer, rows, only
        self.right: dict[str, list[float]] = {}

    def measure(self, when: str, bar: Progress) -> None:
        """Measure now; `when` is "before" or "after"."""
        if self.rows is None or self.only not in (None, when):
            return
        with self.trainer.measuring():
            margins = [margin for part in self.trainer.parts(self.rows) for margin in self.trainer.margins(part)]
        right = self.right[when] = [float(margin > 0) for margin in margins]
        bar.say(f"held-out pairs ranked right {when}: {mean(right):.3f} of {len(right)}")

    def entries(self) -> dict[str, Any]:
        """The shares with 95% intervals, and their paired difference."""
        shares = {when: interval(right) for when, right in self.right.items()}
        if {"before", "after"} <= set(shares):
            gain = paired(self.right["before"], self.right["after"])
            return {"held_out": {"metric": "pair accuracy", **shares, "gain": gain, "tasks": gain.n}}
        return {"table": {f"held-out pairs ranked right {when}": share for when, share in shares.items()}}


def held_out_tasks(cfg: Config) -> Sequence[Task]:
    """The first `evaluation.tasks` tasks of the split to measure on; none where that number is 0."""
    node = cfg.tree.get("evaluation") or {}
    wanted = int(node.get("tasks", 0))
    return list(build(cfg.tree["dataset"])(node.get("split", "test")))[:wanted] if wanted else []


def fit(
    trainer: Supervised, cfg: Config, folder: RunFolder, title: str, *, begin: float, measures: Sequence[Any]
) -> dict[str, Any]:
    """Measure, train (or continue), save, measure again; returns losses at both ends, minutes and what was measured.

    A measure has `measure("before" | "after", bar)` and `entries()` for the result.
    """
    resume = newest_checkpoint(cfg, folder)
    with progress(trainer.args.max_steps, title, ["loss", "tok/s"]) as bar:
        clock = [0.0]

        def show(number: int, metrics: dict[str, float]) -> None:
            if "loss" in metrics:
                now = time.monotonic()
                speed = metrics["tokens"] * trainer.args.logging_steps / max(now - clock[0], 1e-9)
                clock[0] = now
                bar.update(number, {"loss": metrics["loss"], "tok/s": speed})

        trainer.attach(folder, on_log=show, own=cfg.tree["trainer"], limits=cfg.tree.get("ledger"))
        if trainer.sharing is not None:
            trainer.sharing.tell = bar.say
        for one in measures:
            one.measure("before", bar)
        clock[0] = time.monotonic()
        trainer.train_or_stop(resume)
        trainer.save_final(str(folder.model))
        for one in measures:
            one.measure("after", bar)
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    ends = max(1, min(5, len(losses) // 4))
    result: dict[str, Any] = {
        "loss": {"start": mean(losses[:ends]), "end": mean(losses[-ends:])} if losses else None,
        "steps": trainer.state.global_step,
        "objective": -mean(losses[-ends:]) if losses else None,
        "table": {},
    }
    for one in measures:
        part = one.entries()
        result |= {**part, "table": {**result["table"], **part.get("table", {})}}
    return {**result, "minutes": (time.monotonic() - begin) / 60}


def laid_out(sharing: Sharing, prompts: Sequence[Prompt], answers: Sequence[Answer], device: torch.device) -> Rows:
    """Inputs of prompts with their answers, of which only the tokens that train are scored."""
    mask = completion_mask([a.tokens for a in answers], [a.trains for a in answers])
    return sharing.rows(prompts, [a.tokens for a in answers], mask, device)


def held_against(
    reference: Reference, likelihood: Callable[..., Likelihood], divergence: Any, rows: Rows
) -> tuple[Tensor, Rows]:
    """What the reference says of the rows, and the rows asking for a divergence to it where one is picked."""
    with reference.use() as model:
        found = likelihood(model, rows)
        asked = against(rows.ask, divergence, model, found.hidden) if divergence else rows.ask
    return found.logp, Rows(rows.inputs, asked)


def demonstration_batch(rows: Sequence[Row], found: Likelihood, ref_logp: Tensor | None) -> TokenBatch:
    """The record that a supervised loss reads. There is no advantage; a plug-in that names it is refused."""
    answers = [row.answers[0] for row in rows]
    device = found.logp.device
    return TokenBatch(
        tokens=padded([answer.tokens for answer in answers], 0).to(device),
        mask=completion_mask([a.tokens for a in answers], [a.trains for a in answers]).to(device),
        logp=found.logp,
        entropy=found.entropy,
        old_logp=found.logp.detach(),
        old_entropy=found.entropy.detach(),
        ref_logp=ref_logp,
        ref_divergence=found.divergence,
        advantage=None,
        group=torch.arange(len(rows), device=device),
        length=torch.tensor([len(answer.tokens) for answer in answers], device=device),
        source=tuple(("expert",) * len(answer.tokens) for answer in answers),
    )


def counts_of(trained: Sequence[int], micro_batches: int) -> Counts:
    """The counts of rows that train so many tokens each."""
    n = len(trained)
    return Counts(rows=n, tokens=sum(trained), groups=n, pairs=n, micro_batches=micro_batches)
