"""Supervised terms on the rows of a step that an expert wrote."""

from collections.abc import Sequence

import torch

from rlpost.types import NT, Loss
from rlpost.written import written_by


def expert_nll(logp: NT, source: Sequence[Sequence[str]]) -> Loss:
    """Negative log-likelihood of the tokens whose source is "expert", beside the loss of the others.

    Equation:
        value = -logp where source is "expert", 0 elsewhere

    Reduces to:
        sft_loss nll on a row that the expert wrote alone.

    Edge cases:
        It knows no advantage and teaches every expert token that trains, also that of a beginning which a completion
        continues (rollout prefix_rft): there it is the supervised half of a blend. With the aggregate role_mean it is
        the mean per expert row, whatever number of completions stands beside it.

    Paper:
        Towards a Unified View of Large Language Model Post-Training, arXiv 2509.04419; ExPO, arXiv 2507.02834.
    """
    expert = written_by(source, "expert", logp)
    nll = torch.where(expert, -logp, 0.0)
    return Loss(nll, {"expert_nll": nll.detach().sum(-1) / expert.sum(-1).clamp(min=1)})
