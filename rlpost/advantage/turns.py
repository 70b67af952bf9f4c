"""Credit for trajectories of several rows: each counts once, or each turn is judged against the same turn of others."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_max, group_mean, group_std, together
from rlpost.types import NK, Ids, K, N


def trajectory_zscore(rewards: NK, weights: K, group: Ids, trajectory: Ids, index: Ids, *, epsilon: float = 1e-6) -> N:
    """What a trajectory earned at its end, against the others of its group; all of its rows get the same.

    Equation:
        r_i = sum_k w_k r_k over the rewards that apply to the last row (greatest index) of trajectory i
        advantage of its rows = (r_i - mean_group r) / (std_group r + epsilon), over trajectories, sample deviation

    Reduces to:
        group_zscore (with its epsilon) where every trajectory is one row.

    Edge cases:
        Equal rewards or a trajectory alone in its group: 0. No reward applies to the last row: 0, left out of mean
        and std. Rewards of earlier rows are not read.

    Paper:
        MGPO, arXiv 2507.05920: the advantage of a conversation stands at the tokens of both of its turns.
    """
    own = together(group, trajectory)
    r = weighted_sum(rewards, weights)
    r = torch.where(index == group_max(index.to(r.dtype), own), r, torch.nan)
    judged = group_count(r, own) > 0
    z = (group_mean(r, own) - group_mean(r, group)) / (group_std(r, group) + epsilon)
    return torch.where(judged, z, 0.0)


def keyed_zscore(
    rewards: NK,
    weights: K,
    group: Ids,
    turn: Ids,
    trajectory: Ids,
    *,
    keys: Sequence[Literal["group", "turn", "trajectory"]] = ("group", "turn"),
    epsilon: float = 1e-4,
) -> N:
    """A row against the rows that agree with it in all of `keys`, such as the same turn of the same prompt.

    Equation:
        r = sum_k w_k r_k over the rewards that apply
        advantage = (r - mean_same r) / (std_same r + epsilon), sample deviation, over the rows with equal keys

    Reduces to:
        group_zscore with keys [group].

    Edge cases:
        A row alone among its keys: 0. No reward applies: 0, left out of mean and std.

    Paper:
        Turn-level credit as in UI-S1, arXiv 2509.11543, there together with the whole group (advantage ui_s1).
    """
    known = {"group": group, "turn": turn, "trajectory": trajectory}
    if not keys:
        raise ConfigError(
            "advantage keyed_zscore has no keys and would compare all rows; name group, or group and turn"
        )
    return _zscore(weighted_sum(rewards, weights), together(*(known[key] for key in keys)), epsilon)


def ui_s1(
    rewards: NK,
    weights: K,
    reward_names: Sequence[str],
    group: Ids,
    turn: Ids,
    *,
    episode: str = "action_score",
    step: str = "action_return",
    scale: Literal["mean_std", "mean"] = "mean_std",
    epsilon: float = 1e-6,
) -> N:
    """Two judgements of a step: its score among all steps of the prompt, its return among the same step of others.

    Equation:
        advantage = w_e (r - mean_group r) / (std_group r + epsilon) + w_s (G - mean_same G) / (std_same G + epsilon)
        r, w_e: column and weight of the reward `episode`; G, w_s: of the reward `step`; same: equal group and turn

    Reduces to:
        keyed_zscore of the returns at w_e 0, group_zscore of the step scores at w_s 0.

    Edge cases:
        A step that no other trajectory of the group reached: its second part is 0. Where a column does not apply, its
        part is 0. scale "mean" leaves the deviations out. Other rewards are logged and not trained on.

    Paper:
        UI-S1, arXiv 2509.11543; the first part is over all step rows of a prompt, as in the official code.
    """
    missing = [name for name in (episode, step) if name not in reward_names]
    if missing:
        raise ConfigError(f"advantage ui_s1 names the reward {missing[0]!r}; this run has {list(reward_names)}.")
    parts = []
    for name, ids in ((episode, group), (step, together(group, turn))):
        k = list(reward_names).index(name)
        r = rewards[:, k]
        z = _zscore(r, ids, epsilon) if scale == "mean_std" else torch.nan_to_num(r - group_mean(r, ids), nan=0.0)
        parts.append(weights[k] * z)
    return parts[0] + parts[1]


def _zscore(r: N, ids: Tensor, epsilon: float) -> N:
    return torch.nan_to_num((r - group_mean(r, ids)) / (group_std(r, ids) + epsilon), nan=0.0)
