"""Credit for trajectories of several rows: each counts once, or each turn is judged against the same turn of others."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_max, group_mean, group_std, group_sum, rollouts, together
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
    trajectory: Ids,
    *,
    episode: str = "action_score",
    step: str = "action_return",
    pool: Literal["trajectories", "steps"] = "trajectories",
    scale: Literal["mean_std", "mean"] = "mean_std",
    epsilon: float = 1e-6,
) -> N:
    """Two judgements of a step: its trajectory among those of the prompt, its return among the same step of others.

    Equation:
        advantage = w_e (R - mean_group R) / (std_group R + epsilon) + w_s (G - mean_same G) / (std_same G + epsilon)
        R: sum of r over the rows of the trajectory, mean and deviation over the trajectories of the group
        steps: R = r of the row itself, mean and deviation over all rows of the group
        r, w_e: column and weight of the reward `episode`; G, w_s: of the reward `step`; same: equal group and turn

    Reduces to:
        keyed_zscore of the returns at w_e 0; at w_s 0 trajectory_zscore of the sums, with steps group_zscore of the
        step scores.

    Edge cases:
        A step that no other trajectory of the group reached: its second part is 0. Where a column does not apply, its
        part is 0. scale "mean" leaves the deviations out. Other rewards are logged and not trained on.

    Paper:
        UI-S1, arXiv 2509.11543; `steps` is its official code. Assumed: what a trajectory earns is the sum of its steps.
    """
    missing = [name for name in (episode, step) if name not in reward_names]
    if missing:
        raise ConfigError(f"advantage ui_s1 names the reward {missing[0]!r}; this run has {list(reward_names)}.")
    k, s = (list(reward_names).index(name) for name in (episode, step))
    own = rollouts(group, trajectory)
    r = rewards[:, k]
    if pool == "trajectories":
        z = _once(torch.where(group_count(r, own) > 0, group_sum(r, own), torch.nan), own, group, scale, epsilon)
    else:
        z = _scaled(r, group, scale, epsilon)
    return weights[k] * z + weights[s] * _scaled(rewards[:, s], together(group, turn), scale, epsilon)


def _once(r: N, own: Ids, group: Ids, scale: str, epsilon: float) -> N:
    """Rows of a trajectory share a number, which counts once among those of the group; each of them gets the result."""
    first = torch.zeros_like(own).scatter_reduce(
        0, own, torch.arange(len(own), device=own.device), "amin", include_self=False
    )
    alone = torch.where(first[own] == torch.arange(len(own), device=own.device), r, torch.nan)
    centred = r - group_mean(alone, group)
    return torch.nan_to_num(centred / (group_std(alone, group) + epsilon) if scale == "mean_std" else centred, nan=0.0)


def _scaled(r: N, ids: Ids, scale: str, epsilon: float) -> N:
    return _zscore(r, ids, epsilon) if scale == "mean_std" else torch.nan_to_num(r - group_mean(r, ids), nan=0.0)


def _zscore(r: N, ids: Tensor, epsilon: float) -> N:
    return torch.nan_to_num((r - group_mean(r, ids)) / (group_std(r, ids) + epsilon), nan=0.0)
