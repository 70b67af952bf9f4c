"""Metrics of whole trajectories that an expert went before."""

from collections.abc import Sequence

from rlpost.errors import RewardError
from rlpost.types import Rollout


def sop(
    rollouts: Sequence[Rollout], *, score: str = "action_score", matched: float = 0.9, column: str = "steps"
) -> dict[str, float]:
    """How far the policy gets along expert trajectories before its first mistake (semi-online performance).

    Equation:
        m_i = steps of trajectory i with score >= matched before the first other one; N_i = the expert's steps
        progress = mean m_i / N_i;  success = mean [m_i = N_i];  sop = (progress + success) / 2

    Edge cases:
        Steps behind a mistake do not count, so patches change nothing. Raises RewardError where no row has the score.

    Paper:
        UI-S1, arXiv 2509.11543: PG, TSR and their mean.
    """
    trajectories: dict[tuple[str, int], list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.scores.get(score) is not None and rollout.task.columns.get(column):
            trajectories.setdefault((rollout.group, rollout.trajectory), []).append(rollout)
    if not trajectories:
        raise RewardError(f"metric sop needs rollouts with the score {score!r} and expert steps; use reward=[{score}]")
    shares = []
    for rows in trajectories.values():
        right = [row.scores[score] >= matched for row in sorted(rows, key=lambda row: row.index)]
        before = right.index(False) if False in right else len(right)
        shares.append(before / len(rows[0].task.columns[column]))
    progress, success = sum(shares) / len(shares), sum(share == 1 for share in shares) / len(shares)
    return {"sop": (progress + success) / 2, "progress": progress, "success": success}
