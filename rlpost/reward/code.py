"""Rewards for programs: a completion's Python code against the tests of its task, run in the sandbox.

The tests and what they expect never meet the program in one process. Asserts run in a judging process that the program
cannot look into; it sees the arguments of a call and gives data back. Printed output is compared here, outside.
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rlpost import ledger
from rlpost.errors import DataError
from rlpost.sandbox import Limits, SandboxError, python_job, run_job
from rlpost.types import Rollout

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE)
_OURS = Path(__file__).parent
_JUDGE = "code_judge.py"
_BESIDE = ("code_exchange.py", "code_program.py")
_PACKAGE = "rlpost/reward"


@dataclass(frozen=True)
class Result:
    """How many of a task's tests a program passed."""

    passed: int
    total: int


def unit_tests(
    rollouts: Sequence[Rollout],
    *,
    column: str = "tests",
    timeout_s: float = 10.0,
    memory_mb: int = 512,
    packages: bool = False,
    workers: int | None = None,
    allow: Sequence[str] = (),
) -> list[float | None]:
    """1 where the completion's Python code passes every test of its task, else 0.

    The code is the last fenced block of the completion (after any thinking), or all of it where nothing is fenced.
    The task's `column` holds its tests in one of four forms: Python source with asserts; a list of such sources;
    a mapping {inputs, outputs} of equally long lists of texts; a list of {input, output}. Source without a
    top-level assert needs a function `check` and a column `entry_point`, or functions named test... . Texts are given
    on standard input, and what is printed must equal the output, blanks at the ends of lines and of the text apart.
    `timeout_s` bounds all asserts of a source together, and each input; `workers` (None: one per processor) how many
    completions run side by side; `packages` lets programs import what is installed beside rlpost; `allow` waives
    protections that this machine lacks (see docs/sandbox.md).

    Edge cases: None where the task has no tests, and None, counted in the ledger, where its tests cannot be run: they
    are no Python, import what is not there, or hand objects of their own to the program, which runs in a process apart
    (data, functions and the program's own objects can cross). A test that compares an object of the program, instead
    of data, fails, as do a program that hangs, ends early or breaks a limit. Empty completions score 0.

    Raises SandboxError where the sandbox is broken or too weak, DataError for tests of an unknown form.

    Paper: Measuring Coding Challenge Competence With APPS (2105.09938), strict accuracy.
    """
    limits = Limits(seconds=timeout_s, memory_mb=memory_mb)
    results = _results(rollouts, column, limits, packages, workers, allow, stop_early=True)
    return [None if result is None else float(result.passed == result.total) for result in results]


def unit_tests_share(
    rollouts: Sequence[Rollout],
    *,
    column: str = "tests",
    timeout_s: float = 10.0,
    memory_mb: int = 512,
    packages: bool = False,
    workers: int | None = None,
    allow: Sequence[str] = (),
) -> list[float | None]:
    """The share of its task's tests that the completion's Python code passes, from 0 to 1.

    Equation: passed / total

    Edge cases: As `unit_tests`. After a statement between the tests that fails, all later tests of that source fail,
    as do those that a limit cut off.

    Paper: Measuring Coding Challenge Competence With APPS (2105.09938), test case average.
    """
    limits = Limits(seconds=timeout_s, memory_mb=memory_mb)
    results = _results(rollouts, column, limits, packages, workers, allow, stop_early=False)
    return [None if result is None else result.passed / result.total for result in results]


def code_of(text: str) -> str:
    """The program in a completion: the last fenced block that is Python or has no language, else the whole text."""
    blocks = blocks_of(text)
    return blocks[-1] if blocks else _said(text)


def blocks_of(text: str) -> list[str]:
    """The fenced blocks of a completion, after any thinking, that are Python or have no language."""
    found = _FENCE.findall(_said(text))
    return [body for language, body in found if language.lower() in ("", "python", "py", "python3")]


def _said(text: str) -> str:
    return text.rpartition("</think>")[2]


def _results(
    rollouts: Sequence[Rollout],
    column: str,
    limits: Limits,
    packages: bool,
    workers: int | None,
    allow: Sequence[str],
    stop_early: bool,
) -> list[Result | None]:
    def one(rollout: Rollout) -> Result | str | None:
        tests = rollout.task.columns.get(column)
        if not tests:
            return None
        code = code_of(rollout.text)
        parts: list[Callable[[], Result | str]] = []
        for test in _forms(tests, rollout.task.id, column):
            if isinstance(test, str):
                entry = rollout.task.columns.get("entry_point")
                parts.append(lambda test=test, entry=entry: _asserts(code, test, entry, limits, packages, allow))
            else:
                parts.append(lambda pair=test: _prints(code, *pair, limits, packages, allow))
        return _total(parts, code, stop_early)

    count = max(1, min(len(rollouts), workers or len(os.sched_getaffinity(0))))
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(one, rollouts))
    for rollout, result in zip(rollouts, found, strict=True):
        if isinstance(result, str):
            ledger.current().fail("unit_tests: the tests cannot be run", f"task {rollout.task.id} ({result})")
    return [result if isinstance(result, Result) else None for result in found]


def _total(parts: Sequence[Callable[[], Result | str]], code: str, stop_early: bool) -> Result | str:
    """The sum over the parts; with `stop_early` those after a failure are neither run nor counted."""
    passed = total = 0
    for part in parts:
        result = part() if code.strip() else Result(0, 1)
        if isinstance(result, str):
            return result
        passed, total = passed + result.passed, total + result.total
        if stop_early and passed < total:
            break
    return Result(passed, total)


def _forms(tests: Any, task: str, column: str) -> list[str | tuple[str, str]]:
    """The tests as sources or (input, output) pairs."""
    if isinstance(tests, str):
        return [tests]
    if isinstance(tests, Mapping) and {"inputs", "outputs"} <= set(tests):
        inputs, outputs = tests["inputs"], tests["outputs"]
        if len(inputs) == len(outputs) > 0:
            return [(str(given), str(wanted)) for given, wanted in zip(inputs, outputs, strict=True)]
    if isinstance(tests, Sequence) and all(isinstance(test, str) for test in tests):
        return list(tests)
    if isinstance(tests, Sequence) and all(isinstance(t, Mapping) and {"input", "output"} <= set(t) for t in tests):
        return [(str(test["input"]), str(test["output"])) for test in tests]
    raise DataError(
        f"task {task}: column {column!r} holds {tests!r:.80}, which is no form of tests; give Python source, a list of "
        "sources, {inputs, outputs} of equal length, or a list of {input, output}"
    )


def _prints(code: str, given: str, wanted: str, limits: Limits, packages: bool, allow: Sequence[str]) -> Result:
    """One input; the expected output stays in this process."""
    room = max(limits.output_kb, 2 * len(wanted.encode()) // 1024 + 1)
    outcome = run_job(
        python_job(code, stdin=given, limits=replace(limits, output_kb=room), packages=packages), allow=allow
    )
    return Result(int(outcome.ok and _lines(outcome.stdout) == _lines(wanted)), 1)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _asserts(
    code: str, tests: str, entry_point: str | None, limits: Limits, packages: bool, allow: Sequence[str]
) -> Result | str:
    """One source of tests; a sentence where the tests themselves are at fault."""
    files = {f"{_PACKAGE}/{name}": (_OURS / name).read_text() for name in _BESIDE}
    files |= {"rlpost/__init__.py": "", f"{_PACKAGE}/__init__.py": ""}
    request = json.dumps({"code": code, "tests": tests, "entry_point": entry_point})
    judge = (_OURS / _JUDGE).read_text()
    outcome = run_job(python_job(judge, stdin=request, files=files, limits=limits, packages=packages), allow=allow)
    lines = outcome.stdout.splitlines()
    for line in lines:
        if line.startswith("untestable "):
            return line.removeprefix("untestable ")
    if not lines or not lines[0].isdigit():
        if outcome.status in ("timeout", "memory"):
            return f"the judge ended before the tests began: {outcome.detail}"
        raise SandboxError(f"the judge of unit tests broke: {outcome.detail}; {outcome.stderr[-300:]}")
    return Result(sum(line == "1" for line in lines[1:]), int(lines[0]))
