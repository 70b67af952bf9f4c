"""Asks the fork server to run programs, and finds out what this machine can promise."""

import contextlib
import functools
import os
import site
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from rlpost.sandbox import wire
from rlpost.sandbox.limits import Limits, Outcome, Protections, SandboxError

GRACE_S = 30.0  # beyond a run's own limit, for setting up and cleaning up on a busy machine
SCRIPT = "main.py"
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"}
SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store",
    "/etc/ld.so.cache", "/etc/localtime", "/etc/alternatives",
)  # fmt: skip
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from rlpost.sandbox.server import main; main(int(sys.argv[2]))"


@dataclass(frozen=True)
class Job:
    """One program: a command, what it reads, and its limits.

    `files` maps relative paths in its folder to contents. `reads` adds paths outside that it may read, `env` variables.
    """

    command: Sequence[str]
    stdin: str | bytes = b""
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    reads: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)


def python_job(
    code: str,
    *,
    arguments: Sequence[str] = (),
    stdin: str | bytes = b"",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
) -> Job:
    """A Python program as a job; with `packages` it may also import what is installed beside rlpost."""
    paths = [os.path.realpath(path) for path in site.getsitepackages() if os.path.isdir(path)] if packages else []
    return Job(
        [python(), "-s", "-S", "-B", SCRIPT, *arguments],
        stdin,
        {**(files or {}), SCRIPT: code},
        limits or Limits(),
        paths,
        {"PYTHONPATH": os.pathsep.join(paths)} if paths else {},
    )


def run(
    command: Sequence[str],
    *,
    stdin: str | bytes = b"",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    reads: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
) -> Outcome:
    """Run a command in a fresh cage and wait for it.

    `allow` names protections (`network`, `writes`, `reads`, `processes`) that may be missing on this machine.
    Raises SandboxError where a protection is missing that `allow` does not name, or where the sandbox itself breaks.
    """
    return run_job(Job(command, stdin, files or {}, limits or Limits(), reads, env or {}), allow=allow)


def run_python(
    code: str,
    *,
    arguments: Sequence[str] = (),
    stdin: str | bytes = b"",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    packages: bool = False,
    allow: Collection[str] = (),
) -> Outcome:
    """Run Python source in a fresh cage; see `run` and `python_job`."""
    job = python_job(code, arguments=arguments, stdin=stdin, files=files, limits=limits, packages=packages)
    return run_job(job, allow=allow)


def run_many(jobs: Sequence[Job], *, workers: int | None = None, allow: Collection[str] = ()) -> list[Outcome]:
    """Run jobs side by side, `workers` (None: one per processor) at a time; outcomes in the order of the jobs."""
    count = min(len(jobs), workers or len(os.sched_getaffinity(0)))
    if count <= 1:
        return [run_job(job, allow=allow) for job in jobs]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(functools.partial(run_job, allow=allow), jobs))


def run_job(job: Job, *, allow: Collection[str] = ()) -> Outcome:
    """Run one job; see `run`."""
    found = protections()
    found.require(allow)
    return ask(job, namespaces=found.mode == "namespaces")[0]


def ask(job: Job, *, namespaces: bool, result: bool = False) -> tuple[Outcome, bytes]:
    """Send a job to the fork server; also returns what the program wrote to its result descriptor."""
    header, body = _request(job, result)
    connection = _SERVER.connect(namespaces)
    with connection:
        connection.settimeout(job.limits.seconds + GRACE_S)
        try:
            wire.send(connection, header, body)
            reply, output = wire.receive(connection)
        except TimeoutError as error:
            limit = job.limits.seconds + GRACE_S
            raise SandboxError(f"the sandbox's supervisor gave no answer within {limit:g} s") from error
        except ConnectionError as error:
            raise SandboxError(f"the sandbox's supervisor ended without an answer ({error})") from error
    if "broken" in reply:
        raise SandboxError(f"the sandbox cannot start a program: {reply['broken']}")
    out, err, _ = reply.pop("sizes")
    texts = [part.decode(errors="replace") for part in (output[:out], output[out : out + err])]
    return Outcome(stdout=texts[0], stderr=texts[1], **reply), output[out + err :]


def python() -> str:
    """The interpreter that programs run on: this one's own, without a virtual environment around it."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _request(job: Job, result: bool) -> tuple[dict[str, Any], bytes]:
    stdin = _bytes(job.stdin)
    files = [(_inside(name), _bytes(content)) for name, content in job.files.items()]
    homes = [os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix)]
    header = {
        "command": list(job.command),
        "stdin": len(stdin),
        "files": [(name, len(content)) for name, content in files],
        "limits": job.limits.as_request(),
        "reads": [*SYSTEM, *homes, *(os.path.realpath(path) for path in job.reads)],
        "env": {**ENVIRONMENT, **job.env},
        "result": result,
    }
    return header, stdin + b"".join(content for _, content in files)


def _bytes(text: str | bytes) -> bytes:
    return text.encode(errors="surrogatepass") if isinstance(text, str) else text


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or str(path) in ("", "."):
        raise SandboxError(f"file {name!r} of a sandbox run must be a relative path inside its folder")
    return str(path)


class _Server:
    """The fork server of this process, started when first needed and again should it have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def connect(self, namespaces: bool) -> socket.socket:
        """A connection to a new supervisor."""
        for _ in range(2):
            control = self._running()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    socket.send_fds(control, [b"n" if namespaces else b"f"], [theirs.fileno()])
                except OSError:
                    ours.close()
                    self._forget(control)
                    continue
            return ours
        raise SandboxError("the sandbox's fork server ends as soon as it is started")

    def _running(self) -> socket.socket:
        with self._lock:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                root = str(Path(__file__).parents[2])
                with theirs:
                    self._process = subprocess.Popen(
                        [python(), "-I", "-S", "-B", "-c", _BOOT, root, str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        pass_fds=[theirs.fileno()],
                        env={},
                        cwd="/",
                        start_new_session=True,
                    )
                self._control = ours
            return self._control

    def _forget(self, control: socket.socket) -> None:
        with self._lock:
            if self._control is control:
                control.close()
                self._control = None
                if self._process is not None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(1)


_SERVER = _Server()


@functools.cache
def protections() -> Protections:
    """What this machine enforces, found by running a tiny program in each kind of cage. Asked once per process."""
    if sys.platform != "linux":
        return Protections("none", frozenset(), {"all": f"the sandbox needs Linux, and this is {sys.platform}"})
    why: dict[str, str] = {}
    job = python_job("print(1)", limits=Limits(seconds=60.0))
    for namespaces in (True, False):
        mode = "namespaces" if namespaces else "filters"
        try:
            outcome, _ = ask(job, namespaces=namespaces)
        except SandboxError as error:
            why[mode] = str(error)
            continue
        if outcome.stdout == "1\n":
            return _promises(namespaces, why)
        why[mode] = f"Python does not start in it ({outcome.detail}; {outcome.stderr.strip()[-200:]})"
    return Protections("none", frozenset(), {"all": "; ".join(f"{mode}: {text}" for mode, text in why.items())})


def _promises(namespaces: bool, why: Mapping[str, str]) -> Protections:
    from rlpost.sandbox import landlock, seccomp

    version, filters = landlock.version(), seccomp.supported()
    layers = [*(["namespaces"] if namespaces else []), *(["seccomp"] if filters else [])]
    layers += [f"landlock {version}"] if version else []
    layers += ["other user"] if os.geteuid() == 0 else []
    found = Protections("namespaces" if namespaces else "filters", frozenset(), dict(why), tuple(layers))
    if namespaces:
        return replace(found, have=frozenset({"network", "writes", "reads", "processes"}))
    other = os.geteuid() == 0
    reasons = {
        "network": "" if filters else "no system-call filter for this machine type",
        "writes": ""
        if version >= (1 if other else landlock.TRUNCATE_SINCE) and filters
        else "Landlock is missing or old",
        "reads": "" if version else "Landlock is missing",
        "processes": "" if filters else "no system-call filter for this machine type",
    }
    lost = {name: f"{text}, and {why['namespaces']}" for name, text in reasons.items() if text}
    return replace(found, have=frozenset(set(reasons) - set(lost)), why={**why, **lost})
