"""The best against the worst completion of a prompt."""

from collections.abc import Sequence

from rlpost.build.rows import groups, pair, score
from rlpost.types import Rollout, Task


def best_and_worst(
    rollouts: Sequence[Rollout], *, reward: str = "", length_penalty: float = 0.0, min_gap: float = 0.0
) -> list[Task]:
    """The completion of highest score against the one of lowest: one pair per prompt, the widest there is.

    Equation:
        s(y) = r(y) - length_penalty * tokens(y);  chosen = argmax s, rejected = argmin s;  margin = s_w - s_l

    Edge cases:
        `reward` names one, "" is the weighted total. A pair whose margin is not above `min_gap` is dropped, and so is
        one of equal texts. Empty texts are left out. The first of several equal ones counts.

    Paper:
        RLHF Workflow: From Reward Modeling to Online RLHF, arXiv 2405.07863, section 3 (best-of-n against worst-of-n).
    """
    found = []
    for group in groups(rollouts):
        rows = [one for one in group if one.text.strip() and score(one, reward) is not None]
        scored = [(score(one, reward) - length_penalty * one.info["length"], one) for one in rows]
        if not scored:
            continue
        (top, chosen), (low, rejected) = max(scored, key=lambda row: row[0]), min(scored, key=lambda row: row[0])
        if top - low > min_gap and chosen.text != rejected.text:
            found.append(pair(chosen, rejected, chosen_reward=top, rejected_reward=low, margin=top - low))
    return found
