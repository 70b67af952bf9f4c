"""The error classes and their exit codes. An error is one sentence: what is wrong, the value seen, what to do."""

from collections.abc import Sequence


class RlpostError(Exception):
    """Base of all errors that the command line answers with a sentence instead of a traceback."""

    exit_code = 1


class ConfigError(RlpostError):
    """Usage or configuration (exit 2). Carries every fault found, not only the first."""

    exit_code = 2

    def __init__(self, faults: str | Sequence[str]):
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        super().__init__("\n".join(self.faults))


class DataError(RlpostError):
    """A dataset, a row or a medium cannot be used (exit 3)."""

    exit_code = 3


class ModelError(RlpostError):
    """A model, tokenizer or chat template cannot be used (exit 4)."""

    exit_code = 4


class RewardError(RlpostError):
    """A reward raised, returned NaN or the wrong number of scores (exit 5)."""

    exit_code = 5


class OutOfMemory(RlpostError):
    """The device or the host ran out of memory (exit 6)."""

    exit_code = 6


class Hang(RlpostError):
    """A phase exceeded its time limit (exit 7)."""

    exit_code = 7


class SelfCheckError(RlpostError):
    """A parity, resume or export check failed (exit 8)."""

    exit_code = 8


class GateError(RlpostError):
    """An evaluation gate was not met, or a reward stack has a hole (exit 9)."""

    exit_code = 9


class Interrupted(RlpostError):
    """The user interrupted the run and a checkpoint was saved (exit 130)."""

    exit_code = 130
