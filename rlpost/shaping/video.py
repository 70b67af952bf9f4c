"""Video-R1's two bonuses on correct answers: for needing the order of frames, and for an answer of moderate length."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.types import NK, Ids, N

ACCURACY = ("multiple_choice", "numerical", "ocr", "free_form", "regression")


def temporal_bonus(
    rewards: NK,
    reward_names: Sequence[str],
    group: Ids,
    role: Sequence[str],
    *,
    columns: tuple[str, ...] = ACCURACY,
    bonus: float = 0.3,
    mu: float = 1.0,
    threshold: float = 0.1,
) -> NK:
    """T-GRPO: correct answers earn a bonus where ordered frames do at least as well as changed ones.

    Equation:
        p = mean accuracy of the group's policy rows, q = mean accuracy of its contrast rows
        r_i grows by bonus  where  p >= mu * q  and  r_i > threshold  and row i is a policy row
    Reduces to:
        the rewards unchanged when bonus is 0.
    Edge cases:
        A group without contrast rows (an image, a text) earns none. p = q = 0 passes and rewards nobody. A column
        that does not apply (NaN) is left alone. It comes before length_bonus, which would raise p.
        In a group whose answers are right or wrong the bonus shifts and scales the reward of the right ones, which
        group_zscore then cancels up to its epsilon: it matters where another reward varies, or for partial credit.

    Paper:
        Video-R1, arXiv 2503.21776: mu 1.0; its published code has 0.8 (option temporal_bonus_code).
    """
    accuracy, applies = _accuracy(rewards, reward_names, columns)
    policy, contrast = _has(role, "policy"), _has(role, "contrast")
    earns = torch.zeros_like(policy)
    for name in torch.unique(group):
        ordered, changed = (group == name) & policy, (group == name) & contrast
        if ordered.any() and changed.any() and accuracy[ordered].mean() >= mu * accuracy[changed].mean():
            earns |= ordered & (accuracy > threshold)
    return _add(rewards, applies, earns, bonus)


def length_bonus(
    rewards: NK,
    reward_names: Sequence[str],
    group: Ids,
    role: Sequence[str],
    length: Ids,
    *,
    columns: tuple[str, ...] = ACCURACY,
    bonus: float = 0.2,
    shortest: int = 320,
    longest: int = 512,
    threshold: float = 0.1,
) -> NK:
    """Correct answers of a moderate length earn a bonus, when more than one answer of the group is correct.

    Equation:
        S = policy rows of the group with r_i > threshold
        r_i grows by bonus  where  |S| > 1  and  i in S  and  shortest <= length_i <= longest
    Reduces to:
        the rewards unchanged when bonus is 0.
    Edge cases:
        The limits are inclusive. Only r > threshold counts, so a temporal_bonus that came before changes nothing here.

    Paper:
        Video-R1, arXiv 2503.21776.
    """
    accuracy, applies = _accuracy(rewards, reward_names, columns)
    correct = _has(role, "policy") & (accuracy > threshold)
    moderate = (length >= shortest) & (length <= longest)
    earns = torch.zeros_like(correct)
    for name in torch.unique(group):
        solved = (group == name) & correct
        if solved.sum() > 1:
            earns |= solved & moderate
    return _add(rewards, applies, earns, bonus)


def _accuracy(rewards: NK, names: Sequence[str], columns: Sequence[str]) -> tuple[N, Bool[Tensor, "N K"]]:
    """Each row's accuracy (0 where no column applies) and the column that it stands in: the first that applies."""
    chosen = torch.tensor([name in columns for name in names])
    if not chosen.any():
        raise ConfigError(
            f"none of the bonus's columns {', '.join(columns)} is a reward of this run ({', '.join(names)}); "
            "name the accuracy rewards in shaping.<bonus>.columns"
        )
    there = chosen & ~torch.isnan(rewards)
    applies = there & (there.cumsum(1) == 1)
    return torch.where(applies, rewards, 0.0).sum(1), applies


def _has(role: Sequence[str], wanted: str) -> Bool[Tensor, "N"]:
    return torch.tensor([name == wanted for name in role], dtype=torch.bool)


def _add(rewards: NK, applies: Bool[Tensor, "N K"], earns: Bool[Tensor, "N"], bonus: float) -> NK:
    return torch.where(applies & earns[:, None], rewards + bonus, rewards)
