"""Verifiable rewards for mathematics: equality of expressions, not of strings."""

from rlpost import ledger
from rlpost.lift import per_rollout
from rlpost.reward.math_worker import MathWorker
from rlpost.types import Rollout

_WORKER = MathWorker()


@per_rollout
def math_verify(rollout: Rollout, *, timeout_s: float = 5.0) -> float | None:
    """1 where the completion's final answer is mathematically equal to the gold answer, else 0.

    Answers are found and compared by math-verify: boxed answers first, then the last formula or number.

    Edge cases: None where the task has no answer. None, counted in the ledger with the sample, where the gold answer is
    no mathematics, where no verdict comes within `timeout_s`, and where the comparison breaks.
    Several boxed answers are a set, which equals none of its members. An empty completion scores 0.
    """
    gold = rollout.task.answer
    if gold is None:
        return None
    status, detail = _WORKER.judge(str(gold), rollout.text, timeout_s)
    if status in ("correct", "wrong"):
        return float(status == "correct")
    cause = {
        "no_gold": "math_verify: the gold answer is no mathematics",
        "timeout": f"math_verify: no verdict within {timeout_s:g} s",
        "error": "math_verify: the comparison broke",
    }[status]
    ledger.current().fail(cause, f"task {rollout.task.id}, {rollout.text[-60:]!r} ({detail})")
    return None
