"""What a plan found out: facts by section, warnings, and the faults that stop the run with their exit codes."""

from dataclasses import dataclass, field
from typing import Any

from rlpost.errors import ConfigError, RlpostError


class CannotRun(ConfigError):
    """Every fault of a plan; the exit code is that of the first kind of fault the run itself would meet."""

    def __init__(self, faults: list[tuple[int, str]]):
        super().__init__([sentence for _, sentence in faults])
        self.exit_code = min(code for code, _ in faults)


@dataclass
class Findings:
    """`facts` is plain data for tables and JSON; `warnings` change nothing; `faults` are (exit code, sentence)."""

    command: str
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)

    def warn(self, sentence: str) -> None:
        """Note something that the run survives."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def fault(self, error: RlpostError) -> None:
        """Note what would stop the run; a ConfigError brings each of its faults."""
        told = error.faults if isinstance(error, ConfigError) else [str(error)]
        self.faults += [(error.exit_code, sentence) for sentence in told]

    def check(self) -> None:
        """Raise CannotRun where a fault was found."""
        if self.faults:
            raise CannotRun(self.faults)

    def plain(self) -> dict[str, Any]:
        """Everything as one mapping for JSON."""
        code = min((code for code, _ in self.faults), default=0)
        told = {"warnings": self.warnings, "faults": [sentence for _, sentence in self.faults], "exit_code": code}
        return {"command": self.command, **self.facts, **told}
