"""A reward for completions whose hidden states the others of their group do not span."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.lift import group_rows
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout


def elliptical(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    step: int,
    *,
    role: str = "encoder",
    ridge: float = 0.01,
    width: int | None = 512,
    leave_one_out: bool = True,
    seed: int = 0,
) -> list[float]:
    """Elliptical bonus: how far a completion's hidden state lies from those of its group (RepExp).

    Equation:
        h_i = P (mean over the completion's tokens of the frozen model's last hidden states), centred in the group
        l_i = h_i' (ridge I + sum_j h_j h_j')^-1 h_i, in [0, 1)
        bonus_i = h_i' (ridge I + sum_{j != i} h_j h_j')^-1 h_i = l_i / (1 - l_i); with leave_one_out false l_i itself
    Edge cases:
        P is a sparse random projection to `width` columns, drawn anew each step, the same on all ranks; there is none
        where width is null or not below the model's own. A row alone in its group, or a group of equal states: 0. The
        model reads the prompt and the decoded completion; media of a task are not shown to it.
        A z-score of rewards makes even a small weight count where all other rewards of a group are equal.

    Paper:
        Representation-Based Exploration for Language Models, arXiv 2510.11686: ridge 0.01, width 512 (32 for MATH and
        GSM8K, 128 for DAPO), weight 0.01.
        Its normalisations over the batch are shaping=bonus_scale. Assumed: a projection of density 1/sqrt(D).
    """
    if ridge <= 0 or (width is not None and width < 1):
        raise ConfigError(f"reward elliptical has ridge={ridge:g} and width={width}; both must be above 0")
    states = models[role].hidden([r.task.prompt for r in rollouts], [r.text for r in rollouts]).double()
    states = projected(states, width, seed=seed * 1_000_003 + step)
    bonuses = [0.0] * len(rollouts)
    for rows in group_rows(rollouts).values():
        found = leave_one_out_bonus(states[rows], ridge)
        for i, bonus in zip(rows, (found if leave_one_out else found / (1 + found)).tolist(), strict=True):
            bonuses[i] = bonus
    return bonuses


def leave_one_out_bonus(states: Float[Tensor, "N D"], ridge: float) -> Float[Tensor, "N"]:
    """l / (1 - l) of the ridge leverages l of centred rows.

    The N x N Gram matrix K has the leverages of the D x D covariance: H (ridge I + H'H)^-1 H' = K (ridge I + K)^-1, and
    1 - l is the diagonal of ridge (ridge I + K)^-1, which does not cancel.
    """
    centred = states - states.mean(0)
    inverse = torch.linalg.inv(centred @ centred.T + ridge * torch.eye(len(states), dtype=states.dtype))
    rest = (ridge * inverse.diagonal()).clamp(max=1.0)
    return (1.0 - rest) / rest


def projected(states: Float[Tensor, "N D"], width: int | None, *, seed: int) -> Float[Tensor, "N d"]:
    """Rows in `width` columns, of the same length on average.

    An entry of the projection is not 0 with probability 1/sqrt(D), and then +-sqrt(sqrt(D)/width).
    """
    wide = states.shape[1]
    if width is None or width >= wide:
        return states
    rng = torch.Generator().manual_seed(seed % (1 << 63))
    there = torch.rand(wide, width, generator=rng) < wide**-0.5
    sign = torch.randint(0, 2, (wide, width), generator=rng) * 2 - 1
    return states @ ((there * sign).to(states.dtype) * math.sqrt(math.sqrt(wide) / width))


def coreset(states: Float[Tensor, "N D"], k: int, ridge: float) -> list[int]:
    """The `k` rows that a greedy choice spans most with, in the order of the choice; all of them where there are fewer.

    Each next one is argmax_i h_i' L h_i of the rows that are left, with L = (ridge I + sum of h h' over the chosen)^-1;
    of equal ones the first.
    """
    states = states.double()
    inverse = torch.eye(states.shape[1], dtype=torch.float64) / ridge
    chosen: list[int] = []
    while len(chosen) < min(k, len(states)):
        far = ((states @ inverse) * states).sum(-1)
        far[chosen] = -torch.inf
        chosen.append(int(far.argmax()))
        h = inverse @ states[chosen[-1]]
        inverse = inverse - torch.outer(h, h) / (1 + states[chosen[-1]] @ h)
    return chosen
