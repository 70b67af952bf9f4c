"""Processes of their own that start at once: forked from one that has imported torch, transformers, trl and rlpost.

A start of Python with these imports takes 6 to 10 seconds on a slow machine, a fork of a process that has them takes
milliseconds. What a test needs of "a process of its own" stays true: a process id to kill, memory that is lost with it,
arguments, environment, folder and output of its own, and an exit code. The server itself runs nothing but imports.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[1]
SWEEPING = str(ROOT / "tests/sweeping.py")
MODULES = (
    "torch", "datasets", "peft", "accelerate", "safetensors.torch", "torch.distributed.run",
    "transformers.generation.utils", "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "trl.trainer.grpo_trainer", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "trl.trainer.reward_trainer",
    "hydra", "rlpost.app", "rlpost.execute", "rlpost.assemble", "rlpost.trainers.grpo", "rlpost.trainers.sft",
    "rlpost.trainers.dpo", "rlpost.trainers.reward", "rlpost.run.folder", "rlpost.run.report",
    "rlpost.dataset.arithmetic", "rlpost.models.tiny",
)  # fmt: skip


class Child:
    """One forked process. `wait` gives its exit code (negative: the signal that ended it)."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(_server())
        self._answers = self._line.makefile("r", encoding="utf-8")
        self._line.sendall(json.dumps(order).encode() + b"\n")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._answers.readline())
            self._line.close()
        return self.returncode

    def ended(self) -> bool:
        return self.returncode is not None or bool(select.select([self._line], [], [], 0)[0])

    def kill(self, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)


def start(
    target: str, *arguments: str, output: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Child:
    """Run a module (`rlpost`) or a script (a path that ends in .py) as `__main__`; it writes `output`.out and .err."""
    order = {
        "target": target,
        "arguments": arguments,
        "cwd": str(cwd or Path.cwd()),
        "environment": {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(env or {})},
        "output": str(output),
    }
    return Child(order)


def run(
    target: str, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """The same to its end, with what it said. Several `ranks` find each other as under torchrun (gloo)."""
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, str(rank)) for rank in range(ranks)]
        places = _places(ranks) if ranks > 1 else [{}]
        children = [
            start(target, *arguments, output=output, cwd=cwd, env={**(env or {}), **place})
            for output, place in zip(outputs, places, strict=True)
        ]
        codes = [child.wait() for child in children]
        said = [
            "".join(output.with_suffix(kind).read_text(encoding="utf-8") for output in outputs)
            for kind in (".out", ".err")
        ]
    return subprocess.CompletedProcess([target, *arguments], next((code for code in codes if code), 0), *said)


class Run:
    """A child in the form of a `subprocess.Popen` whose output is let go and whose errors are a pipe."""

    def __init__(self, target: str, *arguments: str) -> None:
        self._place = tempfile.TemporaryDirectory()
        self._child = start(target, *arguments, output=Path(self._place.name, "run"))
        self.pid, self.returncode = self._child.pid, None

    def poll(self) -> int | None:
        if self.returncode is None and self._child.ended():
            self.returncode = self._child.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        self._child.kill(number)

    def communicate(self) -> tuple[None, str]:
        self.returncode = self._child.wait()
        with self._place:
            return None, Path(self._place.name, "run.err").read_text(encoding="utf-8")


def _places(ranks: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
    }
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


@functools.cache
def _server() -> str:
    """The address of this test process's server, started once. It ends with this process: its input closes."""
    folder = tempfile.mkdtemp(prefix="forked-")
    address = os.path.join(folder, "s")
    line = [sys.executable, "-c", "import sys; from tests.forked import serve; serve(sys.argv[1])", address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    served = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert served.stdin and served.stdout
    atexit.register(served.wait)
    atexit.register(served.stdin.close)
    said = served.stdout.readline()
    assert said == "ready\n", f"the fork server did not start: {said!r}"
    return address


def serve(address: str) -> None:
    """Import, then fork a keeper per order until the input closes."""
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # children share this memory, and their collections of garbage need not look at it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _keep(line)
        line.close()


def _keep(line: socket.socket) -> NoReturn:
    """Start the process that was ordered, say its id, wait for its end, say its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with line.makefile("r", encoding="utf-8") as orders:
        order = json.loads(orders.readline())
    child = os.fork()
    if child == 0:
        line.close()
        _become(order)
    line.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    line.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(order: dict[str, Any]) -> NoReturn:
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    output = Path(order["output"])
    for number, kind in ((1, ".out"), (2, ".err")):
        opened = os.open(output.with_suffix(kind), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code: Any = 0
    try:
        target = order["target"]
        sys.argv = [target, *order["arguments"]]
        if target.endswith(".py"):
            runpy.run_path(target, run_name="__main__")
        else:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(code or 0))
