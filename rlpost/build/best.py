"""The best completions as demonstrations."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlpost.build.rows import demonstration, groups, penalised
from rlpost.build.rows import score as value_of
from rlpost.types import Rollout, Task

Scored = tuple[float, Rollout]


def best_of_group(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    rng: random.Random,
    *,
    score: str = "",
    ties: Literal["skip", "random"] = "random",
    kl: float = 0.0,
    policy_role: str | None = None,
    reference_role: str | None = None,
) -> list[Task]:
    """The best of the completions of each prompt: every prompt teaches one answer (RAFT's local ranking).

    Equation:
        y = argmax_k r~(x, y_k), with r~ = r - kl * (log policy(y) - log reference(y))

    Edge cases:
        `score` names a reward; "" is the weighted total. A group whose completions all score the same has no best:
        "random" takes any of them, "skip" none. Among several best ones chance decides. Empty texts are left out.

    Paper:
        RAFT: Reward rAnked FineTuning, arXiv 2304.06767, algorithm 1.
    """
    found = []
    for group in _scored(rollouts, models, score, kl, policy_role, reference_role):
        top = max(value for value, _ in group)
        best = [rollout for value, rollout in group if value == top]
        if ties == "skip" and len(best) == len(group) > 1:
            continue
        found.append(demonstration(rng.choice(best)))
    return found


def best_of_batch(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    rng: random.Random,
    *,
    score: str = "",
    share: float | None = None,
    kl: float = 0.0,
    policy_role: str | None = None,
    reference_role: str | None = None,
) -> list[Task]:
    """The best share of all completions together: easy prompts teach several answers (RAFT's global ranking).

    Equation:
        the ceil(share * n) completions of highest r~ among all n; share is 1/K, one over the completions of a prompt

    Edge cases:
        It mixes how good an answer is with how easy its prompt is. Among equal ones chance decides. `share: null` takes
        K to be the mean size of a group.

    Paper:
        RAFT: Reward rAnked FineTuning, arXiv 2304.06767, section 3 (global ranking).
    """
    listed = _scored(rollouts, models, score, kl, policy_role, reference_role)
    rows = [one for group in listed for one in group]
    wanted = math.ceil(round((len(listed) / len(rows) if share is None else share) * len(rows), 9)) if rows else 0
    rng.shuffle(rows)  # the sort is stable, so equal scores keep this order
    rows.sort(key=lambda one: one[0], reverse=True)
    return [demonstration(rollout) for _, rollout in rows[:wanted]]


def longest_right(
    rollouts: Sequence[Rollout], *, score: str = "", threshold: float = 1.0, whole: bool = True
) -> list[Task]:
    """The longest of the right completions of each prompt: a start for a model that is to think at length.

    Equation:
        y = argmax |y_k| over the completions with r(x, y_k) >= threshold

    Edge cases:
        Length counts tokens; of equally long ones the first. A prompt without a right completion gives no row.
        `whole` leaves out completions that were cut at the limit, whose end is missing.

    Paper:
        Think-RM, arXiv 2505.16265: its supervised start on long traces.
    """
    found = []
    for group in groups(rollouts):
        values = [(value_of(rollout, score), rollout) for rollout in group if not whole or rollout.stop != "length"]
        right = [rollout for value, rollout in values if value is not None and value >= threshold]
        if right:
            found.append(demonstration(max(right, key=lambda rollout: rollout.info["length"])))
    return found


def _scored(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Any],
    name: str,
    kl: float,
    policy_role: str | None,
    reference_role: str | None,
) -> list[list[Scored]]:
    """Groups of completions with text and a score."""
    found = []
    for group in groups(rollouts):
        rows = [one for one in group if one.text.strip()]
        scores = penalised(rows, models, name=name, kl=kl, policy_role=policy_role, reference_role=reference_role)
        found.append([(value, one) for value, one in zip(scores, rows, strict=True) if value is not None])
    return [group for group in found if group]
