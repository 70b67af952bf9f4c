"""Accuracy over k completions per task: the mean, the chance that one of k is right, and the vote.

A rollout is right when its score reaches 1 (`threshold`). `score` names a reward, or several that share the
rollouts between them: the first that applies to a rollout counts. Rollouts to which none applies are left out.
"""

import math
from collections import Counter
from collections.abc import Sequence
from math import comb

from rlpost.errors import RewardError
from rlpost.stack import row_score
from rlpost.types import Rollout


def avg_at_k(
    rollouts: Sequence[Rollout], *, score: str | Sequence[str] = "correct", k: int | None = None
) -> dict[str, float]:
    """Mean score of the first k completions of each task, then over tasks.

    Equation:
        mean over tasks of (1/k) sum_{i <= k} score_i

    Edge cases:
        k=None takes all completions; a task with fewer than k is refused.

    Paper:
        None; the usual definition of avg@k.
    """
    tasks = _by_task(rollouts, score, k)
    means = [sum(_value(r, score) for r in rows) / len(rows) for rows in tasks]
    return {f"avg@{_label(tasks)}": sum(means) / len(means)}


def pass_at_k(
    rollouts: Sequence[Rollout], *, score: str | Sequence[str] = "correct", k: int | None = None, threshold: float = 1.0
) -> dict[str, float]:
    """Chance that at least one of k completions is right, estimated without bias from all n.

    Equation:
        mean over tasks of 1 - C(n - c, k) / C(n, k), with c right completions of n

    Reduces to:
        avg_at_k of a 0/1 score when k is 1.

    Edge cases:
        k=None takes the number of completions of the smallest task; a task with fewer than k is refused.

    Paper:
        Evaluating Large Language Models Trained on Code, arXiv 2107.03374, eq. 1.
    """
    tasks = _by_task(rollouts, score, None)
    k = min(len(rows) for rows in tasks) if k is None else k
    _refuse_short(tasks, k)
    found = []
    for rows in tasks:
        wrong = sum(_value(r, score) < threshold for r in rows)
        found.append(1 - comb(wrong, k) / comb(len(rows), k))
    return {f"pass@{k}": sum(found) / len(found)}


def maj_at_k(
    rollouts: Sequence[Rollout], *, score: str | Sequence[str] = "correct", k: int | None = None, threshold: float = 1.0
) -> dict[str, float]:
    """Is the most frequent answer among the first k completions right?

    Equation:
        mean over tasks of the share of right completions among those that give a most frequent answer

    Edge cases:
        The vote is `info["answer"]` where a reward left one, otherwise the whole text. Answers that tie count in equal
        parts. A completion without an answer (info["answer"] is None) casts no vote; no votes at all count as wrong.

    Paper:
        Self-Consistency, arXiv 2203.11171.
    """
    tasks = _by_task(rollouts, score, k)
    found = [_vote(rows, score, threshold) for rows in tasks]
    return {f"maj@{_label(tasks)}": sum(found) / len(found)}


def _vote(rows: Sequence[Rollout], score: str | Sequence[str], threshold: float) -> float:
    votes = [(str(r.info.get("answer", r.text)).strip(), r) for r in rows if r.info.get("answer", r.text) is not None]
    counts = Counter(answer for answer, _ in votes)
    top = max(counts.values(), default=0)
    shares = []
    for answer in (a for a, n in counts.items() if n == top):
        right = [_value(r, score) >= threshold for a, r in votes if a == answer]
        shares.append(sum(right) / len(right))
    return sum(shares) / len(shares) if shares else 0.0


def _by_task(rollouts: Sequence[Rollout], score: str | Sequence[str], k: int | None) -> list[list[Rollout]]:
    tasks: dict[str, list[Rollout]] = {}
    for r in rollouts:
        if _found(r, score) is not None:
            tasks.setdefault(r.task.id, []).append(r)
    if not tasks:
        names = sorted({name for r in rollouts for name in r.scores})
        raise RewardError(f"No rollout has a score named {score!r}; those found are {names}. Set the metric's score.")
    if k is None:
        return list(tasks.values())
    _refuse_short(list(tasks.values()), k)
    return [rows[:k] for rows in tasks.values()]


def _found(rollout: Rollout, score: str | Sequence[str]) -> float | None:
    names = [score] if isinstance(score, str) else score
    found = (row_score(rollout.scores.get(name)) for name in names)
    return next((one for one in found if one is not None), None)


def _value(rollout: Rollout, score: str | Sequence[str]) -> float:
    found = _found(rollout, score)
    return math.nan if found is None else float(found)


def _refuse_short(tasks: Sequence[Sequence[Rollout]], k: int) -> None:
    short = min(tasks, key=len)
    if not 1 <= k <= len(short):
        raise RewardError(
            f"A metric asks for k={k}, but task {short[0].task.id!r} has {len(short)} scored completions; "
            "choose k between 1 and rollout.num_generations."
        )


def _label(tasks: Sequence[Sequence[Rollout]]) -> str:
    sizes = {len(rows) for rows in tasks}
    return str(sizes.pop()) if len(sizes) == 1 else f"{min(sizes)}-{max(sizes)}"
