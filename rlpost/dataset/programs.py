"""Small functions to write, each with a reference that says what it returns, and calls of them for a critic to name."""

import ast
import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from rlpost.errors import DataError
from rlpost.reward.adversary import question
from rlpost.reward.judge import fence_of
from rlpost.types import Prompt, Rollout, Task

ASK = "Write a Python function {call} that {does}. Reply with only the code."


class _Program(NamedTuple):
    call: str  # name and parameters
    does: str
    body: str  # of the reference, one expression or several lines
    tests: tuple[tuple[str, str], ...]  # arguments and value, as Python

    @property
    def name(self) -> str:
        return self.call.partition("(")[0]

    @property
    def source(self) -> str:
        lines = self.body.splitlines()
        lines[-1] = f"return {lines[-1]}"
        return "\n".join([f"def {self.call}:", *(f"    {line}" for line in lines)])


PROGRAMS = (
    _Program("double(x)", "returns twice the number x", "2 * x", (("3", "6"), ("-2", "-4"))),
    _Program("size(x)", "returns the absolute value of the number x", "abs(x)", (("3", "3"), ("-2", "2"))),
    _Program("is_even(n)", "says whether the whole number n is even", "n % 2 == 0", (("4", "True"), ("7", "False"))),
    _Program("larger(a, b)", "returns the larger one of two numbers", "max(a, b)", (("2, 5", "5"), ("4, 1", "4"))),
    _Program(
        "clamp(x, low, high)",
        "returns x where it lies from low to high, low where it is below, high where it is above",
        "max(low, min(x, high))",
        (("5, 0, 3", "3"), ("-1, 0, 3", "0"), ("2, 0, 3", "2")),
    ),
    _Program("sign(x)", "returns 1 for a positive number, -1 for a negative one and 0 for 0", "(x > 0) - (x < 0)",
             (("8", "1"), ("-3", "-1"), ("0", "0"))),
    _Program("last_digit(n)", "returns the last decimal digit of the whole number n, whatever its sign", "abs(n) % 10",
             (("123", "3"), ("-45", "5"))),
    _Program("total(numbers)", "returns the sum of a list of numbers", "sum(numbers)",
             (("[1, 2, 3]", "6"), ("[]", "0"))),
    _Program("biggest(numbers)", "returns the largest number of a list, and None for an empty list",
             "max(numbers) if numbers else None", (("[1, 9, 3]", "9"), ("[]", "None"), ("[-4, -2]", "-2"))),
    _Program("count_even(numbers)", "counts the even numbers of a list", "sum(1 for n in numbers if n % 2 == 0)",
             (("[1, 2, 4]", "2"), ("[]", "0"))),
    _Program("unique(items)", "returns a list without its repeats, in the order of first appearance",
             "list(dict.fromkeys(items))", (("[3, 1, 3]", "[3, 1]"), ("[]", "[]"))),
    _Program("backwards(text)", "returns a text backwards", "text[::-1]", (("'abc'", "'cba'"), ("''", "''"))),
    _Program("is_palindrome(text)", "says whether a text reads the same backwards, upper and lower case alike",
             "text.lower() == text.lower()[::-1]", (("'Anna'", "True"), ("'ab'", "False"), ("''", "True"))),
    _Program("count_vowels(text)", "counts the vowels a, e, i, o, u of a text, upper and lower case alike",
             "sum(1 for letter in text.lower() if letter in 'aeiou')", (("'Otto'", "2"), ("'xyz'", "0"))),
    _Program("words(text)", "returns how many words separated by blanks a text has", "len(text.split())",
             (("'one two'", "2"), ("''", "0"), ("'  a  b '", "2"))),
    _Program("digits_sum(n)", "returns the sum of the decimal digits of the whole number n, whatever its sign",
             "sum(int(digit) for digit in str(abs(n)))", (("123", "6"), ("-45", "9"), ("0", "0"))),
)  # fmt: skip


def programs(split: str, *, test_share: float = 0.25, seed: int = 0) -> Sequence[Task]:
    """Sixteen small functions, each asked for in a sentence; the demonstration is the reference.

    The columns are `entry_point`, `reference` (source that says what it returns on any input) and `tests` (asserts, for
    reward=unit_tests).

    Edge cases: a hash of name and seed decides which `test_share` of them is for testing.
    """
    if split not in ("train", "test"):
        raise DataError(f"programs has the splits train and test, not {split!r}")
    ranked = sorted(PROGRAMS, key=lambda one: hashlib.sha256(f"{seed}/{one.name}".encode()).digest())
    cut = round(len(ranked) * test_share)
    return [_task(one) for one in (ranked[:cut] if split == "test" else ranked[cut:])]


def attacks(split: str, *, test_share: float = 0.25, template: str | None = None, seed: int = 0) -> Sequence[Task]:
    """What reward=survives asks a critic about the references, with a valid call as the demonstration.

    It shows a critic the form and the kinds of arguments before a game; a reference has no flaw to be found.

    Edge cases: one task for every test of a program, on the same side as the program in `programs`.
    """
    found = []
    for task in programs(split, test_share=test_share, seed=seed):
        one = next(one for one in PROGRAMS if one.name == task.columns["entry_point"])
        written = Rollout(task, "", Prompt([]), [], [], [], str(task.demonstration), "eos")
        fence = fence_of(written)
        for i, (given, _) in enumerate(one.tests):
            call = json.dumps(ast.literal_eval(f"[{given}]"))
            prompt = ({"role": "user", "content": question(written, fence, template)},)
            said = f"A call to try.\nINPUT {fence}: {call}"
            found.append(
                Task(f"attacks-{one.name}-{i}", prompt, columns=task.columns, demonstration=said, tags=task.tags)
            )
    return found


def _task(one: _Program) -> Task:
    tests = "\n".join(f"assert {one.name}({given}) == {value}" for given, value in one.tests)
    return Task(
        id=f"programs-{one.name}",
        prompt=({"role": "user", "content": ASK.format(call=one.call, does=one.does)},),
        answer=one.source,
        columns={"entry_point": one.name, "reference": one.source, "tests": tests},
        demonstration=f"```python\n{one.source}\n```",
        tags=("text" if "text" in one.call else "list" if one.call.endswith("s)") else "number",),
    )
