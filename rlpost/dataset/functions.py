"""Made-up programming tasks: one small Python function each, with tests to run and a demonstration."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rlpost.errors import DataError
from rlpost.types import Task

SPLITS = ("train", "test")
ASK = "Write a Python function {head} that returns {what}. Reply with one code block."
NUMBERS = range(2, 12)


class _Function(NamedTuple):
    """A function's head without def, what it returns in words, its body, and calls with their values."""

    head: str
    what: str
    body: str
    cases: tuple[tuple[str, str], ...]


def functions(
    split: str, *, train_size: int = 128, test_size: int = 32, test_share: float = 0.25, seed: int = 0
) -> Sequence[Task]:
    """Small functions of numbers and texts; the column `tests` holds asserts for reward unit_tests.

    Edge cases: sizes are upper bounds, there are fewer than 100 functions. Splits are apart by a hash of the function.
    """
    if split not in SPLITS:
        raise DataError(f"functions has the splits {', '.join(SPLITS)}, not {split!r}")
    size = {"train": train_size, "test": test_size}[split]
    ranked = sorted(_all(), key=lambda one: _share(one, seed))
    side = [one for one in ranked if (_share(one, seed) < test_share) == (split == "test")]
    return [_task(split, i, one) for i, one in enumerate(side[:size])]


def _all() -> Iterator[_Function]:
    """Values are worked out here, not by running the body."""
    for n in NUMBERS:
        yield _Function("f(x)", f"x plus {n}", f"return x + {n}", tuple((f"f({x})", str(x + n)) for x in (0, 3, -7)))
        yield _Function("f(x)", f"{n} times x", f"return {n} * x", tuple((f"f({x})", str(x * n)) for x in (1, 4, -5)))
        yield _Function("f(x)", f"x minus {n}", f"return x - {n}", tuple((f"f({x})", str(x - n)) for x in (0, 9, -2)))
        yield _Function(
            "f(x)", f"whether {n} divides x", f"return x % {n} == 0",
            tuple((f"f({x})", str(x % n == 0)) for x in (n, 3 * n, n + 1)),
        )  # fmt: skip
        yield _Function(
            "f(s)", f"the text s {n} times in a row", f"return s * {n}",
            tuple((f"f({s!r})", repr(s * n)) for s in ("a", "bc", "")),
        )  # fmt: skip
        yield _Function(
            "f(s)", f"the first {n} letters of s", f"return s[:{n}]",
            tuple((f"f({s!r})", repr(s[:n])) for s in ("abcdefghijklmn", "opqrstuvwxyzab", "xy")),
        )  # fmt: skip


def _share(one: _Function, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{one.what}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _task(split: str, i: int, one: _Function) -> Task:
    return Task(
        id=f"functions-{split}-{i}",
        prompt=({"role": "user", "content": ASK.format(head=one.head, what=one.what)},),
        columns={"tests": "\n".join(f"assert {call} == {value}" for call, value in one.cases)},
        demonstration=f"```python\ndef {one.head}:\n    {one.body}\n```",
        tags=("numbers" if one.head == "f(x)" else "texts",),
    )
