"""Mathematical equality, judged in a process that can be killed."""

import threading
import time

import pytest

from rlpost import ledger
from rlpost.reward.math import math_verify
from tests.reward.rows import rollout


@pytest.fixture(autouse=True)
def fresh_ledger():
    ledger.reset()
    yield
    ledger.reset()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("5", "so \\boxed{5}"),
        ("\\frac{1}{2}", "It is 0.5"),
        ("$\\frac{1}{2}$", "\\boxed{\\frac{2}{4}}"),
        ("3\\sqrt{2}", "$\\sqrt{18}$"),
        ("x=3", "\\boxed{3}"),
        ("\\{1,2\\}", "\\boxed{\\{2, 1\\}}"),
    ],
)
def test_equal_expressions_score_one(answer, text):
    assert math_verify([rollout(text, answer)]) == [1.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6",
        "\\boxed{5.01}",
        "\\boxed{3} \\boxed{4} \\boxed{5}",
        "\\boxed{4,5}",
        "it is $5$ or $6$",
        "Calculate 7 + 12.",
    ],
)
def test_other_texts_score_zero(text):
    assert math_verify([rollout(text, "5")]) == [0.0]
    assert ledger.current().count() == 0


def test_a_hang_is_killed_counted_and_no_zero_and_the_next_row_is_judged():
    start = time.monotonic()
    rows = [rollout("\\boxed{9^{9^{9^{9}}}}", "5"), rollout("\\boxed{5}", "5")]
    assert math_verify(rows, timeout_s=2.0) == [None, 1.0]
    assert time.monotonic() - start < 60
    [row] = ledger.current().rows()
    assert (
        row["kind"] == "fail"
        and row["count"] == 1
        and "no verdict within 2 s" in row["cause"]
        and "t1" in row["where"][0]
    )


def test_a_gold_answer_that_is_no_mathematics_is_counted():
    assert math_verify([rollout("5", ""), rollout("5", None)]) == [None, None]
    assert [row["cause"] for row in ledger.current().rows()] == ["math_verify: the gold answer is no mathematics"]


def test_it_works_in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.extend(math_verify([rollout("\\boxed{5}", "5")])))
    thread.start()
    thread.join(60)
    assert found == [1.0]
