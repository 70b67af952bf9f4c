"""Which tasks can be asked: one that cannot be read is left out and counted, and nothing takes its place."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlpost.errors import DataError
from rlpost.ledger import Ledger, current
from rlpost.media.decode import DecodeError
from rlpost.models.encode import Encoder
from rlpost.types import Prompt, Rollout, Task

MAX_BAD = 0.01

Fault = tuple[str, str]  # the cause, and the place with what is known of it


def max_bad(tree: Mapping[str, Any]) -> float:
    """Share of rows that may be unusable before the run stops: the dataset's own knob where it has one."""
    return float(tree["dataset"].get("max_bad", MAX_BAD))


def fault_of(error: DataError, task: Task) -> Fault:
    """An error on one task as what the ledger counts: equal faults of different rows have one cause."""
    if isinstance(error, DecodeError):
        return f"a medium cannot be decoded ({error.cause})", f"{task.id}: {error}"
    return str(error).replace(task.id, "<id>"), task.id


def context_of(model: Any) -> int | None:
    """Positions that a model knows, None where its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def note_cut(rollouts: Sequence[Rollout], limit: int) -> None:
    """Count the completions that ended at the limit: what they would have gone on to say, nobody knows."""
    for rollout in rollouts:
        if rollout.stop == "length":
            current().cut(f"a completion that ended at rollout.max_tokens={limit}", f"task {rollout.task.id}")


class Usable:
    """The tasks of a draw that can be asked. `total` is how many tasks the run draws from.

    A prompt that cannot be encoded, or is longer than the `context` of the model, is counted once in the ledger. Raises
    DataError where more than one task and more than the share `max_bad` of all cannot be used.
    """

    def __init__(self, total: int, share: float, *, context: int | None = None):
        self.total, self.share, self.context = total, share, context
        self._good: set[str] = set()
        self._ledger = Ledger()

    def fault(self, task: Task, encoder: Encoder, prompts: dict[int, tuple[Task, Prompt]]) -> Fault | None:
        """Why a task cannot be asked, or None. `prompts` takes what was encoded on the way, by the task's id()."""
        if not task.media and task.id in self._good:  # text stays what it was; a file may not
            return None
        try:
            prompt = encoder.prompt(task)
        except DataError as error:
            return fault_of(error, task)
        if self.context is not None and len(prompt.ids) > self.context:
            return f"a prompt longer than the model's context of {self.context} tokens", task.id
        self._good.add(task.id)
        prompts[id(task)] = task, prompt  # the task with it, or another one might get its id()
        return None

    def left(self, tasks: Sequence[Task], faults: Sequence[Fault | None], own: slice = slice(None)) -> list[Task]:
        """The tasks without a fault. All faults count towards the limit, the `own` ones into this rank's ledger."""
        for fault in faults:
            if fault:
                self._ledger.drop(*fault, once=True)
        for fault in faults[own]:
            if fault:
                current().drop(*fault, once=True)
        self._ledger.check(self.total, self.share)
        return [task for task, fault in zip(tasks, faults, strict=True) if fault is None]
