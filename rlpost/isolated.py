"""A reward in a process of its own, so that its time limit can kill it without the run."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlpost import ledger
from rlpost.errors import ConfigError, RewardError, RlpostError
from rlpost.lift import is_by_rollout
from rlpost.nodes import build
from rlpost.now import described, looking_at
from rlpost.types import Prompt, Rollout

START = 300.0  # seconds for the process to import the reward
_SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang by itself


class Isolated:
    """The reward that `node` names, asked in another process that is killed when an answer takes too long.

    `time_limit` is in seconds, per completion for a reward that scores each alone and per call for one that compares.
    What has no answer in time scores None (not applicable) and is counted in the ledger as a failure. The process sees
    the completions with their tasks, without the encoded prompts; `info` and the ledger come back from it.
    """

    def __init__(self, name: str, node: dict[str, Any], time_limit: float):
        self.name, self.node, self.limit = name, node, time_limit
        reward = build(node)
        if hasattr(reward, "observe"):
            raise ConfigError(
                f"reward.{name}.time_limit: this reward remembers what it saw, and a process of its own would forget "
                "it when the limit passes; set it to null"
            )
        self.by_rollout = is_by_rollout(reward)
        self._process: Any = None
        self._pipe: Any = None

    def __call__(self, rollouts: Sequence[Rollout]) -> list[Any]:
        if not self.by_rollout:
            return self._ask(list(rollouts)) if rollouts else []
        scores: list[Any] = []
        for rollout in rollouts:
            looking_at(rollout)
            scores += self._ask([rollout])
        return scores

    def _ask(self, rollouts: list[Rollout]) -> list[Any]:
        """The scores of one call, or None each where the limit passed."""
        if self._process is None:
            self._start()
        self._pipe.send([replace(r, prompt=Prompt([])) for r in rollouts])
        if not self._pipe.poll(self.limit):
            self.stop()
            for rollout in rollouts:
                ledger.current().fail(
                    f"reward {self.name}: over its time_limit of {self.limit:g} s", described(rollout)
                )
            return [None] * len(rollouts)
        found = self._received(rollouts)
        for rollout, info in zip(rollouts, found["info"], strict=True):
            rollout.info.update(info)
        ledger.current().merge(found["ledger"])
        return found["scores"]

    def _received(self, rollouts: list[Rollout]) -> dict[str, Any]:
        sample = described(rollouts[0]) + (f" and {len(rollouts) - 1} more" if len(rollouts) > 1 else "")
        try:
            found = self._pipe.recv()
        except EOFError:
            self._process.join(START)
            code = self._process.exitcode
            self.stop()
            raise RewardError(f"the process of reward '{self.name}' ended (exit code {code}) on {sample}") from None
        if isinstance(found, RlpostError):
            raise found
        if isinstance(found, str):
            raise RewardError(f"reward '{self.name}' raised {found} on {sample}")
        return found

    def _start(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self.node, list(sys.path)), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START):
            self.stop()
            raise RewardError(f"reward '{self.name}' was not imported within {START:.0f} seconds by its own process")
        if self._received_start() != "ready":
            raise RewardError(f"the process of reward '{self.name}' did not start")

    def _received_start(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            self.stop()
            return None

    def stop(self) -> None:
        """End the process; the next call starts another one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = None


def _serve(pipe: Any, node: dict[str, Any], path: list[str]) -> None:
    """The other process: build the reward once, then answer until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's to answer
    _end_with_parent()
    sys.path[:] = path
    reward = build(node)
    pipe.send("ready")
    while True:
        try:
            rollouts = pipe.recv()
        except EOFError:
            return
        ledger.reset()
        try:
            scores = [_plain(score) for score in reward(rollouts)]
            reply: Any = {"scores": scores, "info": [r.info for r in rollouts], "ledger": ledger.current().as_dict()}
        except RlpostError as error:
            reply = error
        except Exception as error:  # the run names it with the sample
            reply = f"{type(error).__name__}: {error}"
        pipe.send(reply)


def _plain(score: Any) -> Any:
    """A tensor or an array as a number: handing over a tensor needs its process to stay alive."""
    return score.tolist() if hasattr(score, "tolist") else score


def _end_with_parent() -> None:
    """On Linux, die with the run even while the reward hangs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(0)
