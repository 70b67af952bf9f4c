"""Reward models trained on pairs of scores."""

from torch.nn.functional import logsigmoid

from rlpost.types import Loss, N


def bradley_terry(chosen_score: N, rejected_score: N, *, center: float = 0.0) -> Loss:
    """The chosen answer should score higher, by the Bradley-Terry likelihood of that preference.

    Equation:
        value = -log sigmoid(chosen_score - rejected_score) + center * (chosen_score + rejected_score)^2

    Edge cases:
        Scores are free up to a constant when center is 0; TRL recommends 0.01 to fix it.

    Paper:
        Training Language Models to Follow Instructions, arXiv 2203.02155, eq. 1; centring: arXiv 2312.09244.
    """
    margin = chosen_score - rejected_score
    value = -logsigmoid(margin) + center * (chosen_score + rejected_score) ** 2
    return Loss(value, {"accuracy": (margin > 0).float(), "margin": margin.detach()})


def bradley_terry_margin(chosen_score: N, rejected_score: N, margin: N, *, center: float = 0.0) -> Loss:
    """Bradley-Terry that demands a larger distance where the annotators were surer (Llama 2).

    Equation:
        value = -log sigmoid(chosen_score - rejected_score - margin) + center * (chosen_score + rejected_score)^2

    Reduces to:
        bradley_terry when margin is 0.

    Edge cases:
        The accuracy that is reported does not count the margin.

    Paper:
        Llama 2, arXiv 2307.09288, eq. 2.
    """
    distance = chosen_score - rejected_score
    value = -logsigmoid(distance - margin) + center * (chosen_score + rejected_score) ** 2
    return Loss(value, {"accuracy": (distance > 0).float(), "margin": distance.detach()})
