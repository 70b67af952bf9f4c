"""Instances of a user's class in processes of their own: a call has a time limit, and a call that hangs is killed."""

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from rlpost.errors import ConfigError, RlpostError
from rlpost.sandbox import wire

START_S = 120.0  # importing a user's class on a busy machine


class CallFailed(Exception):
    """The method raised; the message is its text, `kind` the class of what it raised."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


class CallLost(Exception):
    """The method did not return in time, or its process ended: the instance and its state are gone."""


class NurseryError(RlpostError):
    """The process that holds a user's environments is broken (exit 5)."""

    exit_code = 5


class Nursery:
    """One process per class, started when first needed, that forks a child for every instance."""

    def __init__(self, path: str, *, memory_mb: int):
        self.path, self.memory_mb = path, memory_mb
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def child(self) -> "Child":
        """A process with a fresh instance. Raises ConfigError where the class cannot be imported."""
        ours, theirs = socket.socketpair()
        with theirs:
            for _ in range(2):
                control = self._running()
                try:
                    socket.send_fds(control, [b"c"], [theirs.fileno()])
                    break
                except OSError:
                    self._forget(control)
            else:
                ours.close()
                raise NurseryError(f"the process that holds {self.path} ends as soon as it is started")
        return Child(ours)

    def close(self) -> None:
        """End the process and all its children."""
        with self._lock:
            control, self._control = self._control, None
        if control is not None:
            control.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def _running(self) -> socket.socket:
        with self._lock:
            if self._control is None:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._process = subprocess.Popen(
                        [
                            *(sys.executable, "-m", "rlpost.environment.worker", str(theirs.fileno())),
                            *(self.path, str(self.memory_mb)),
                        ],
                        stdin=subprocess.DEVNULL,
                        stdout=2,  # what a tool prints must not mix with the run's own output
                        pass_fds=[theirs.fileno()],
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                    )
                answer = ours.recv(4096) if select.select([ours], [], [], START_S)[0] else b"no answer"
                if answer != b"ready":
                    ours.close()
                    why = answer.decode(errors="replace") or "its process ended"
                    raise ConfigError(f"the environment class {self.path!r} cannot be used: {why}")
                self._control = ours
            return self._control

    def _forget(self, control: socket.socket) -> None:
        with self._lock:
            if self._control is control:
                control.close()
                self._control = None


class Child:
    """One instance in a process of its own."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._pid: int | None = None
        self.lost = 0  # characters of the last value that were cut

    def call(self, method: str, arguments: Mapping[str, Any], *, timeout_s: float, most: int | None = None) -> Any:
        """What the method returns, as text of at most `most` characters, a number or None; `lost` says what was cut.

        Raises CallFailed where it raised, CallLost where it had to be killed or died, NurseryError for a value that
        cannot be shown to a policy.
        """
        try:
            body = pickle.dumps(dict(arguments))
        except RecursionError as error:
            raise CallFailed("RecursionError", "the arguments are nested too deeply") from error
        try:
            if self._pid is None:
                self._pid = int(self._answer(START_S)["pid"])
            wire.send(self._connection, {"method": method, "most": most}, body)
            reply = self._answer(timeout_s)
        except TimeoutError as error:
            self.close()
            raise CallLost(f"did not return within {timeout_s:g} s") from error
        except OSError as error:
            self._pid = None  # it is dead, and its number may be another's by now
            self.close()
            raise CallLost("ended its process") from error
        if "refused" in reply:
            raise NurseryError(f"{method} {reply['refused']}")
        if "error" in reply:
            raise CallFailed(reply["error"], reply["text"])
        value = reply["value"]
        self.lost = reply["length"] - len(value) if isinstance(value, str) else 0
        return value

    def close(self) -> None:
        """Kill the process and what it started."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            self._pid = None
        self._connection.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """Small replies come in one piece, so the limit of the socket is the limit of the call."""
        self._connection.settimeout(timeout_s)
        return wire.receive(self._connection)[0]
