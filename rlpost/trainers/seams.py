"""Where rlpost takes over from TRL: the step, the data loader, logging and checkpoints. TRL keeps loop and optimizer.

`OwnStep` stands before a TRL trainer class. It asks for the micro-batches of an optimizer step once, then for the loss
of each; `tests/trainers/test_seams.py` pins every overridden name and signature of the installed releases.
"""

import contextlib
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback
from transformers.utils.logging import disable_progress_bar

from rlpost import ledger
from rlpost.errors import Interrupted, RlpostError, SelfCheckError
from rlpost.now import now
from rlpost.run import checkpoint
from rlpost.run.folder import RunFolder
from rlpost.step import Summed
from rlpost.trainers import moments
from rlpost.trainers.sharing import is_sharded

STATE_FILE = "rlpost.pt"
# transformers' own methods, called past those that TRL puts in between.
STOCK: Any = Trainer


class OwnStep:
    """Mixin before a TRL trainer. A subclass implements `micro_batches`, `micro_loss` and the state it must remember.

    Losses come already divided by the counts of the whole step, so TRL must not divide by the accumulation steps; data
    parallelism averages over ranks, so the loss is multiplied by their number, here and nowhere else.
    """

    loss_is_scaled_for_ga = True
    folder: RunFolder
    # What transformers' trainer provides.
    args: Any
    state: Any
    model: Any
    accelerator: Any
    optimizer: Any
    train: Callable[..., Any]
    save_model: Callable[..., Any]
    add_callback: Callable[..., Any]
    remove_callback: Callable[..., Any]
    _tr_loss: Any
    _total_loss_scalar: Any
    _globalstep_last_logged: Any
    keep_checkpoints: int = 2
    max_minutes: float | None = None
    rows_seen: int = 0
    _pending: str | None = None  # the checkpoint whose state is not restored yet
    ledger_limits: Mapping[str, float | None] = {}

    def attach(
        self,
        folder: RunFolder,
        *,
        on_log: Callable[[int, dict[str, float]], None] | None = None,
        own: Mapping[str, Any] | None = None,
        limits: Mapping[str, float | None] | None = None,
    ) -> None:
        """Give the trainer its run folder; call once after construction and before `train`.

        `own` are the keys of `trainer` that are rlpost's: `keep_checkpoints`, `max_minutes`, `optimizer_from`. `limits`
        are the shares of rows, by kind, above which the ledger ends the run.
        """
        self.folder = folder
        folder.rescue = self._rescue
        self.ledger_limits = limits or {}
        self.keep_checkpoints = int((own or {}).get("keep_checkpoints") or self.keep_checkpoints)
        self.max_minutes = (own or {}).get("max_minutes")
        self._on_log = on_log
        self._sums: dict[str, Summed] = {}
        self._seconds: dict[str, float] = defaultdict(float)
        self._items: list[Any] = []
        self._drained = self._begun = time.monotonic()
        self._untrained = ledger.current().copy()
        self._told = self._untrained.copy()  # what this rank need not tell the first one any more
        self.interrupted = False
        self.remove_callback(PrinterCallback)
        self.add_callback(_StopOnInterrupt(self))
        self.add_callback(_Sync())
        if self.max_minutes is not None:
            self.add_callback(_StopAfter(self, self.max_minutes))
        if (own or {}).get("optimizer_from"):
            self.add_callback(moments.GoOn(self, str((own or {})["optimizer_from"])))
        disable_progress_bar()

    def micro_batches(self, step: int) -> list[Any]:
        """The micro-batches of one optimizer step on this rank, as many as there are accumulation steps."""
        raise SelfCheckError(f"{type(self).__name__} does not implement micro_batches")

    def micro_loss(self, model: Any, item: Any) -> tuple[torch.Tensor, dict[str, Summed]]:
        """The loss of a micro-batch, already divided by the counts of the whole step, and its metrics."""
        raise SelfCheckError(f"{type(self).__name__} does not implement micro_loss")

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint must remember besides model, optimizer and random numbers: tensors and plain data."""
        return {}

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `extra_state` returned."""

    def take_over(self, state: Mapping[str, Any], steps: int, tree: Mapping[str, Any]) -> None:
        """Go on from another run's `extra_state` after `steps`, `tree` being its configuration: here with nothing."""

    def train_or_stop(self, resume: str | None) -> None:
        """Train, or go on from the checkpoint `resume`. Raises Interrupted after Ctrl-C, when a checkpoint is saved."""
        # Also without a checkpoint: a run that was killed before its first one has logged steps that come again.
        self.folder.rewind(0 if resume is None else checkpoint.step_of(resume))
        self._begun = time.monotonic()
        self._pending = resume
        self.train(resume_from_checkpoint=resume)
        if self.interrupted:
            raise Interrupted(
                f"interrupted after step {self.state.global_step}; a checkpoint is saved, continue with "
                f"resume={self.folder.path}"
            )

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase of the step; the seconds are logged as `time/<name>`."""
        start = time.perf_counter()
        try:
            with now.phase(name):
                yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def record(self, metrics: Mapping[str, Summed | float]) -> None:
        """Add metrics of the current step; sums and counts add up over micro-batches and ranks."""
        add_up(self._sums, metrics)

    # --- overridden from transformers and TRL -------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Micro-step numbers instead of rows: tasks are picked inside the step."""
        numbers: Any = range(self.args.max_steps * self.args.gradient_accumulation_steps)
        # accelerate skips batches through the batch sampler when a run resumes, so there must be one.
        return DataLoader(numbers, batch_size=1, collate_fn=_only)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """transformers' step, without the timing and buffering that TRL adds around it."""
        with now.phase("backward"):
            return STOCK.training_step(self, model, inputs, num_items_in_batch)

    def _prepare_inputs(self, index: Any) -> Any:
        accumulation = self.args.gradient_accumulation_steps
        step, part = divmod(int(index), accumulation)
        if part == 0 or not self._items:
            self._items = self.micro_batches(step)
            if len(self._items) != accumulation:
                raise SelfCheckError(f"step {step} has {len(self._items)} micro-batches, not {accumulation}")
        return self._items[part]

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Loss of a micro-batch, times the number of ranks that data parallelism will divide by."""
        with self.phase("train"):
            loss, metrics = self.micro_loss(model, inputs)
        if not torch.isfinite(loss):
            raise RlpostError(
                f"the loss of step {self.state.global_step} is {float(loss)}; lower trainer.learning_rate or look at "
                f"the rewards and log-ratios of this step in {self.folder.path}"
            )
        self.record(metrics)
        return loss * self.accelerator.num_processes

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> None:
        """Counts come from the rollouts, not from labels."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: the inputs are step numbers."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the step's own metrics, write `metrics.jsonl`, and hand everything to the loggers."""
        if "train_loss" in logs:  # transformers divides by the steps since a resume, and its clock may be set back
            logs = {name: value for name, value in logs.items() if not name.endswith("_per_second")}
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
            logs["train_runtime"] = time.monotonic() - self._begun
        merged = {**logs, **self._drain(), **self._counted()}
        if self.folder.writes:
            self.folder.log({"step": self.state.global_step, "phase": "train", **merged})
            if self._on_log:
                self._on_log(self.state.global_step, merged)
        STOCK.log(self, merged, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with self.phase("save"):
            self._checkpoint(model, trial)

    def _checkpoint(self, model: Any, trial: Any) -> None:
        target = self.folder.checkpoints / f"step-{self.state.global_step:06d}"
        partial = target.with_name(f".partial-{target.name}")
        main = self.accelerator.is_main_process
        with checkpoint.atomic_folder(target) if main else contextlib.nullcontext():
            self.accelerator.wait_for_everyone()
            self._partial = partial
            STOCK._save_checkpoint(self, model, trial)
            torch.save(self._state(), partial / f"checkpoint-{self.state.global_step}" / self._state_file())
            self.accelerator.wait_for_everyone()
            if main:
                _lift(partial / f"checkpoint-{self.state.global_step}")
        self.accelerator.wait_for_everyone()
        if main:
            _drop_old(self.folder.checkpoints, self.keep_checkpoints)

    def _get_output_dir(self, trial: Any) -> str:
        return str(getattr(self, "_partial", self.args.output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        STOCK._load_rng_state(self, checkpoint)
        if checkpoint is None:
            return
        self._pending = None
        state = torch.load(Path(checkpoint) / self._state_file(), weights_only=True)
        self._tr_loss.copy_(state["tr_loss"])
        self._total_loss_scalar, self._globalstep_last_logged = state["total_loss"], state["last_logged"]
        ledger.current().merge(state["ledger"])
        self._told, self.rows_seen = ledger.current().copy(), state["rows_seen"]
        self.load_extra_state(state["extra"])

    def _finalize_training(self, trial: Any, samples: int, start_time: float) -> Any:
        if self._pending:  # no step was left, at whose beginning transformers would have loaded it
            self._load_rng_state(self._pending)
        return STOCK._finalize_training(self, trial, samples, start_time)

    def _rescue(self, place: Path, phase: str) -> list[str]:
        """Save the weights where a run hangs: those of the last whole step, except where a phase changes them."""
        if not self.folder.writes or phase in ("sync", "save") or is_sharded(self.accelerator):
            return [self.folder.safe()] if self.folder.writes else []
        self.accelerator.unwrap_model(self.model).save_pretrained(place / "model")
        return [
            f"the weights after step {self.state.global_step} are in {place / 'model'}; init={place / 'model'} starts "
            "from them",
            self.folder.safe(),
        ]

    # --- helpers -------------------------------------------------------------------------------------------------

    def _state_file(self) -> str:
        rank = self.accelerator.process_index
        return STATE_FILE if rank == 0 else f"rlpost-rank{rank}.pt"

    def _state(self) -> dict[str, Any]:
        return {
            "tr_loss": self._tr_loss,
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "ledger": ledger.current().since(self._untrained),
            "rows_seen": self.rows_seen,
            "extra": self.extra_state(),
        }

    def _drain(self) -> dict[str, float]:
        sums, seconds = self._sums, dict(self._seconds)
        self._sums, self._seconds = {}, defaultdict(float)
        moving, elapsed = sums.get("gradient_tokens"), max(time.monotonic() - self._drained, 1e-9)
        self._drained = time.monotonic()
        means = means_of(sums, self.accelerator)
        if moving is not None:
            means["gradient_tokens_per_s"] = float(moving.total) / elapsed
        return {**means, **{f"time/{name}": value for name, value in seconds.items()}}

    def _counted(self) -> dict[str, float]:
        """What is in the ledger so far, by kind, of all ranks: they tell each other what is new, so a limit ends all.

        Every rank reads the whole dataset, so what was counted before training each knows already.
        """
        known = ledger.current()
        for rank, part in enumerate(gathered(known.since(self._told), self.accelerator)):
            if rank != self.accelerator.process_index:
                known.merge(part)
        self.folder.save_ledger()
        self._told = known.copy()
        known.judge(self.rows_seen, self.ledger_limits)
        return {f"ledger/{kind}": float(known.count(kind)) for kind in ledger.KINDS if known.count(kind)}


def add_up(sums: dict[str, Summed], metrics: Mapping[str, Summed | float]) -> None:
    """Add metrics to sums and counts on the CPU; a plain number counts once."""
    for name, value in metrics.items():
        new = value if isinstance(value, Summed) else Summed(torch.tensor(float(value)), torch.ones(()))
        old = sums.get(name, Summed(torch.zeros(()), torch.zeros(())))
        sums[name] = Summed(old.total + new.total.cpu(), old.count + new.count.cpu())


def means_of(sums: Mapping[str, Summed], accelerator: Any) -> dict[str, float]:
    """The means over all ranks of what `add_up` added; 0 where nothing was counted."""
    parts = gathered({name: (float(s.total), float(s.count)) for name, s in sums.items()}, accelerator)
    means = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        total, count = (sum(part[name][i] for part in parts if name in part) for i in (0, 1))
        means[name] = total / count if count else 0.0
    return means


def gathered(value: Any, accelerator: Any) -> list[Any]:
    """The objects of all ranks, in rank order."""
    if accelerator.num_processes == 1:
        return [value]
    found: list[Any] = [None] * accelerator.num_processes
    with now.phase("sync"):
        torch.distributed.all_gather_object(found, value)
    return found


def _only(batch: list[int]) -> int:
    return batch[0]


class _StopOnInterrupt(TrainerCallback):
    """The first Ctrl-C ends the run after the current step with a checkpoint; a second one ends it at once."""

    def __init__(self, trainer: Any):
        self.trainer = trainer
        self.asked = False
        self._before: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with contextlib.suppress(ValueError):  # not in the main thread: Ctrl-C is somebody else's to handle
            self._before = signal.signal(signal.SIGINT, self._interrupt)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if any(gathered(self.asked, self.trainer.accelerator)):
            self.asked = True
            control.should_save, control.should_training_stop = True, True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        self.trainer.interrupted = self.asked

    def _interrupt(self, number: int, frame: Any) -> None:
        if self.asked:
            signal.signal(signal.SIGINT, self._before)
            raise KeyboardInterrupt
        self.asked = True
        print("\nFinishing this step, then saving a checkpoint; press Ctrl-C again to stop at once.", flush=True)


class _Sync(TrainerCallback):
    """The optimizer's step, where data-parallel ranks wait for each other, as a phase."""

    def __init__(self) -> None:
        self._phase = contextlib.ExitStack()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._phase.enter_context(now.phase("sync"))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._phase.close()


class _StopAfter(TrainerCallback):
    """Ends training at the first step that finishes after `minutes`, on all ranks at once."""

    def __init__(self, trainer: Any, minutes: float):
        self.trainer, self.minutes = trainer, minutes
        self.start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        late = time.monotonic() - self.start > 60 * self.minutes
        if any(gathered(late, self.trainer.accelerator)):
            control.should_training_stop = True
        return control


def _lift(folder: Path) -> None:
    for place in folder.iterdir():
        shutil.move(place, folder.parent / place.name)
    folder.rmdir()


def _drop_old(checkpoints: Path, keep: int) -> None:
    whole = sorted(p for p in checkpoints.iterdir() if p.is_dir() and not p.name.startswith("."))
    for place in whole[:-keep] if keep > 0 else []:
        shutil.rmtree(place)
