"""Rules on single rows."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from rlpost.errors import ConfigError


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
