"""Credit over the turns of a conversation, each turn judged against the same turn of the group."""

from collections.abc import Sequence

import torch

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_mean
from rlpost.types import NK, Ids, K, N


def first_turn_baseline(
    rewards: NK,
    weights: K,
    group: Ids,
    trajectory: Ids,
    turn: Ids,
    role: Sequence[str],
    *,
    gamma: float = 0.1,
) -> N:
    """Discounted returns centred per turn, and distilled rows held against the first turn (RLTF).

    Equation:
        R_t = r_t + gamma * R_(t+1) of the same trajectory, R_t = r_t at its last turn
        advantage = R_t - mean of R_t over the rows of the group that have turn t
        rows of role "distilled": advantage = r - mean of r over the rows of the group that have turn 0

    Reduces to:
        group_centred where every row has turn 0.

    Edge cases:
        A turn that one row of the group reaches has advantage 0. Distilled rows are in no mean. A row to which no
        reward applies has advantage 0 and ends the sum of returns before it; where it is all that turn 0 has, the
        baseline of distilled rows is 0.

    Paper:
        RLTF, arXiv 2602.02482: gamma 0.1, no division by a standard deviation.
    """
    r = weighted_sum(rewards, weights)
    taught = torch.tensor([name == "distilled" for name in role], dtype=torch.bool)
    own = torch.where(taught, torch.nan, r)
    returns = own.clone()
    place = {(int(group[i]), int(trajectory[i]), int(turn[i])): i for i in range(len(r)) if not torch.isnan(own[i])}
    for key in sorted(place, key=lambda key: -key[2]):
        after = place.get((key[0], key[1], key[2] + 1))
        if after is not None:
            returns[place[key]] = own[place[key]] + gamma * returns[after]
    turns = int(turn.max()) + 1 if len(turn) else 1
    centred = returns - group_mean(returns, group * turns + turn)
    first = group_mean(torch.where(turn == 0, own, torch.nan), group)
    return torch.nan_to_num(torch.where(taught, r - first, centred), nan=0.0)
