"""Weights of both sides of a group that holds completions and a demonstration."""

from collections.abc import Sequence

import torch

from rlpost.errors import ConfigError
from rlpost.masked import group_sum
from rlpost.types import NT, Ids, Mask, N

# Of 0 to 7 right completions of 7, in the published code.
POLICY = (0.0, 0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0)
EXPERT = (1.0, 0.5, 0.25, 0.125, 0.0, 0.0, 0.0, 0.0)


def solved_share(
    mask: Mask,
    reward: N,
    role: Sequence[str],
    group: Ids,
    *,
    policy: Sequence[float] = POLICY,
    expert: Sequence[float] = EXPERT,
    threshold: float = 1.0,
) -> NT:
    """The more of a group's completions succeed, the more they count and the less its demonstration does.

    Equation:
        P = share of the group's policy rows with reward >= threshold
        weight = policy(P) on rows of the role policy, expert(P) on those of the role expert, 1 on others
        policy(.) and expert(.): straight lines between the given values, which stand at P = 0, .., 1 in equal steps

    Reduces to:
        the switch of rollout hpt (gate 0) with policy [0, 1, .., 1] and expert [1, 0, .., 0] of G + 1 values.

    Edge cases:
        Rows without a reward count as no success; a group without policy rows has P = 0.

    Paper:
        Towards a Unified View of Large Language Model Post-Training (HPT), arXiv 2509.04419: its soft variant, a table
        of P. The values are those of its code (soft_type 2), for 7 completions beside a demonstration.
    """
    if min(len(policy), len(expert)) < 2:
        raise ConfigError("token_weight solved_share: policy and expert need two values or more, for P = 0 and P = 1")
    own = torch.tensor([name == "policy" for name in role], device=mask.device)
    shown = torch.tensor([name == "expert" for name in role], device=mask.device)
    right = (torch.nan_to_num(reward, nan=-torch.inf) >= threshold) & own
    share = group_sum(right.float(), group) / group_sum(own.float(), group).clamp(min=1)
    weight = torch.where(own, _line(share, policy), torch.where(shown, _line(share, expert), 1.0))
    return weight.unsqueeze(-1).expand(mask.shape)


def _line(share: N, values: Sequence[float]) -> N:
    table = torch.tensor(list(values), dtype=torch.float32, device=share.device)
    place = share * (len(values) - 1)
    low = place.floor().clamp(max=len(values) - 2)
    return torch.lerp(table[low.long()], table[low.long() + 1], place - low)
