"""Rules on single rows."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.types import Mask


def with_role(role: Sequence[str], *, roles: tuple[str, ...] = ("policy",)) -> Bool[Tensor, "N"]:
    """Keep the rows that play one of the given roles, such as the policy's own rows beside a contrast arm.

    Equation:
        keep_i = role_i in roles

    Edge cases:
        Roles that no row has are allowed, as long as some row stays; an empty list of roles is refused.
    """
    if not roles:
        raise ConfigError("keep with_role has an empty list of roles and would drop every row; name at least one role.")
    return torch.tensor([r in roles for r in role], dtype=torch.bool)


def trained_rows(mask: Mask) -> Bool[torch.Tensor, "N"]:
    """Keep the rows that have a token to train on, so that rows which only inform cost nothing and count nowhere.

    Equation:
        keep_i = any_t mask_it

    Edge cases:
        Advantages are computed afterwards: rows that leave take no part in their group's statistics.
    """
    return mask.any(-1)
