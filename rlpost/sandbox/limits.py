"""What a sandboxed program may use, what became of it, and which protections a machine offers."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rlpost.errors import RlpostError

Status = Literal["ok", "error", "timeout", "memory", "output", "processes"]
Protection = Literal["network", "writes", "reads", "processes"]
PROTECTIONS: tuple[Protection, ...] = get_args(Protection)


class SandboxError(RlpostError):
    """The sandbox itself is broken or too weak (exit 5); what a program did wrong is an Outcome instead."""

    exit_code = 5


@dataclass(frozen=True)
class Limits:
    """What one run may use, all its processes together unless said otherwise.

    `seconds` is wall-clock time, `cpu_seconds` processor time (None: as `seconds`). `memory_mb` bounds the address
    space of each process and the resident memory of all. `processes` counts threads too. `file_mb` bounds one file,
    `folder_mb` the whole temporary folder, `output_kb` stdout and stderr together. All sizes are binary (1024).
    """

    seconds: float = 10.0
    cpu_seconds: float | None = None
    memory_mb: int = 512
    processes: int = 32
    file_mb: int = 16
    folder_mb: int = 64
    open_files: int = 64
    output_kb: int = 256

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:
                raise SandboxError(f"sandbox limit {name} is {value!r}; it must be above 0")

    def as_request(self) -> dict[str, Any]:
        """The numbers as the supervisor reads them."""
        return {**asdict(self), "cpu_seconds": self.cpu_seconds or self.seconds}


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    `status`: `ok` (exit code 0), `error` (another exit code or a signal), or the limit that ended it: `timeout` (wall
    or processor time), `memory`, `output`, `processes`. `detail` says it in words. `exit_code` is negative for a
    signal and None where the sandbox killed the program. `peak_mb` is resident memory, sampled for several processes.
    `value` is the return value of `call`, and None otherwise.
    """

    status: Status
    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float
    detail: str = ""
    value: Any = None

    @property
    def ok(self) -> bool:
        """The program ended by itself with exit code 0."""
        return self.status == "ok"


@dataclass(frozen=True)
class Protections:
    """What this machine enforces. `have` names the promises kept, `why` says for each other one what is missing.

    `mode` is `namespaces` (own file tree, process tree and network) or `filters` (system-call filter and Landlock).
    """

    mode: Literal["namespaces", "filters", "none"]
    have: frozenset[Protection]
    why: dict[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def require(self, allow: Collection[str]) -> None:
        """Raise SandboxError where a promise cannot be kept and `allow` does not name it."""
        unknown = sorted(set(allow) - set(PROTECTIONS))
        if unknown:
            raise SandboxError(f"allow={unknown!r}: known protections are {', '.join(PROTECTIONS)}")
        if self.mode == "none":
            raise SandboxError(f"untrusted code is not run here: {self.why.get('all', 'no protection works')}")
        lost = [name for name in PROTECTIONS if name not in self.have and name not in allow]
        if lost:
            reasons = "; ".join(f"{name}: {self.why.get(name, 'not enforced')}" for name in lost)
            raise SandboxError(
                f"untrusted code is not run here, since this machine cannot enforce {', '.join(lost)} ({reasons}); "
                f"to run it all the same set allow=[{', '.join(lost)}]"
            )
