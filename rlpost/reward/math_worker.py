"""Judges mathematical answers in a process that can be killed: symbolic algebra hangs on some inputs.

Run as a module it reads one JSON request per line ({gold, text}) and answers with one ({status, detail}).
"""

import atexit
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from typing import Any, Literal

Status = Literal["correct", "wrong", "no_gold", "timeout", "error"]
START_S = 120  # importing sympy on a busy machine


class MathWorker:
    """One child process, started when first needed and replaced when it had to be killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._lock = threading.Lock()
        atexit.register(self.close)

    def judge(self, gold: str, text: str, timeout_s: float) -> tuple[Status, str]:
        """Whether the text's final answer equals the gold answer, with a detail where there is no verdict."""
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"gold": gold, "text": text}).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                self.close()
                return "error", "the judging process ended"
            answer = self._line(process, timeout_s)
            if isinstance(answer, str):
                self.close()
                return ("timeout", f"no verdict within {timeout_s:g} s") if answer == "late" else ("error", answer)
            return answer["status"], answer["detail"]

    def close(self) -> None:
        """End the child."""
        process, self._process, self._buffer = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rlpost.reward.math_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
            ready = self._line(self._process, START_S)
            if isinstance(ready, str):
                self.close()
                raise RuntimeError(
                    f"the process that judges mathematics did not start ({ready}); is math-verify installed?"
                )
        return self._process

    def _line(self, process: subprocess.Popen[bytes], timeout_s: float) -> dict[str, Any] | str:
        """The next answer; "late" when the time is over, another sentence when the child ended."""
        assert process.stdout is not None
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                return "late"
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                return "the judging process ended"
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


def verdict(gold: str, text: str) -> tuple[Status, str]:
    """What math-verify says; its own timeouts are off, since they need the main thread's alarm."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    marked = gold if "$" in gold or "\\boxed" in gold else f"\\boxed{{{gold}}}"
    wanted = parse(marked, parsing_timeout=0)
    if not wanted:
        return "no_gold", f"the gold answer {gold!r} is no mathematics"
    kinds = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    found = parse(text, kinds, extraction_mode="first_match", parsing_timeout=0)
    return ("correct" if found and verify(wanted, found, timeout_seconds=0) else "wrong"), ""


def serve() -> None:
    """Answer requests until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    logging.disable(logging.WARNING)  # math-verify warns at each call that its timeouts are off
    import math_verify  # noqa: F401

    _send(answers, "correct", "ready")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            status, detail = verdict(request["gold"], request["text"])
        except Exception as error:  # the parent counts it with the sample, the child goes on
            status, detail = "error", f"{type(error).__name__}: {error}"
        _send(answers, status, detail)


def _send(answers: Any, status: Status, detail: str) -> None:
    answers.write(json.dumps({"status": status, "detail": detail}) + "\n")
    answers.flush()


if __name__ == "__main__":
    serve()
