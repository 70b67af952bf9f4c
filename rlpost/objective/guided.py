"""Objectives for groups in which some rows were written with help: no importance ratio speaks for those tokens."""

from collections.abc import Sequence

import torch

from rlpost.objective.ratio import ratio
from rlpost.types import NT, Loss
from rlpost.written import written_by


def critique_grpo(
    logp: NT, old_logp: NT, advantage: NT, source: Sequence[Sequence[str]], *, gamma: float = 0.1
) -> Loss:
    """Policy gradient on the policy's tokens; on the expert's, their shaped probability, which lifts unlikely tokens.

    Equation:
        policy tokens: value = -exp(logp - old_logp) * advantage
        expert tokens: value = -f(exp(logp)) * advantage, f(p) = p / (p + gamma)

    Gradient:
        -advantage * gamma * p / (p + gamma)^2 with respect to logp on an expert token, largest at p = gamma: with
        respect to p itself gamma / (p + gamma)^2, 1 / gamma where p is near 0.

    Reduces to:
        ppo_clip without its clip where no token is an expert's.

    Edge cases:
        log-ratios are bounded at +-20 nats. There is no clip: rollouts serve one update, or few.

    Paper:
        Critique-GRPO, arXiv 2506.03106; gamma 0.1. The shaping is LUFFY's, arXiv 2504.14945.
    """
    expert = written_by(source, "expert", logp)
    r, p = ratio(logp, old_logp), logp.exp()
    value = -torch.where(expert, p / (p + gamma), r) * advantage
    return Loss(value, {"ratio": torch.where(expert, 1.0, r.detach()), "expert": expert.float()})
