"""Pairs with how often each answer wins: the win matrix of a prompt's completions."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.build.rows import groups, pair, score
from rlpost.errors import DataError
from rlpost.types import Rollout, Task


def win_matrix(rollouts: Sequence[Rollout], *, reward: str = "", slope: float = 1.0) -> list[Task]:
    """The completion that wins most against one that wins least, each with its chance against the policy.

    Equation:
        P_ij = sigmoid(slope * D_ij), P_ii = 1/2;  D_ij is the pairwise reward's score of i against j, or s_i - s_j
        p_i = (1/K) sum_j P_ij;  chosen = argmax p with chosen_win = p_w, rejected = argmin p with rejected_win = p_l

    Edge cases:
        `reward` names one: a reward that compares (pair_judge) gives D itself, any other one a score. A prompt whose
        answers all win alike, or of one text, is dropped.

    Paper:
        Self-Play Preference Optimization (SPPO), arXiv 2405.00675, section 4.
    """
    found = []
    for group, wins in _matrices(rollouts, reward, slope):
        mean = wins.mean(-1)
        w, lost = int(mean.argmax()), int(mean.argmin())
        if mean[w] > mean[lost] and group[w].text != group[lost].text:
            found.append(pair(group[w], group[lost], chosen_win=mean[w].item(), rejected_win=mean[lost].item()))
    return found


def win_pair(rollouts: Sequence[Rollout], *, reward: str = "", slope: float = 1.0) -> list[Task]:
    """The same pairs with the chance of the one against the other, for the loss `sppo_single`.

    Equation:
        chosen_win = P_wl, rejected_win = P_lw = 1 - P_wl

    Reduces to:
        win_matrix in which answer is chosen and which rejected.

    Edge cases:
        As in win_matrix.

    Paper:
        Self-Play Preference Optimization (SPPO), arXiv 2405.00675; the variant of its published code.
    """
    found = []
    for group, wins in _matrices(rollouts, reward, slope):
        mean = wins.mean(-1)
        w, lost = int(mean.argmax()), int(mean.argmin())
        if mean[w] > mean[lost] and group[w].text != group[lost].text:
            one = wins[w, lost].item()
            found.append(pair(group[w], group[lost], chosen_win=one, rejected_win=1 - one))
    return found


def _matrices(
    rollouts: Sequence[Rollout], reward: str, slope: float
) -> list[tuple[list[Rollout], Float[Tensor, "K K"]]]:
    """Completions of each prompt, without empty ones, and P_ij in float64."""
    found = []
    for whole in groups(rollouts):
        there = [i for i, one in enumerate(whole) if one.text.strip() and score(one, reward) is not None]
        if not there:
            continue
        difference = _differences(whole, there, reward)
        wins = torch.sigmoid(slope * difference)
        found.append(([whole[i] for i in there], wins.fill_diagonal_(0.5)))
    return found


def _differences(whole: Sequence[Rollout], there: Sequence[int], reward: str) -> Float[Tensor, "K K"]:
    """D_ij of the rows `there` of a group."""
    given = [whole[i].scores.get(reward) for i in there]
    if not all(isinstance(one, list) for one in given):
        scores = torch.tensor([score(whole[i], reward) for i in there], dtype=torch.float64)
        return scores[:, None] - scores[None, :]
    if any(len(one) != len(whole) for one in given if isinstance(one, list)):
        raise DataError(
            f"build: {reward} scores task {whole[0].task.id} by spans, not against each of its {len(whole)} answers; "
            "name a reward that compares (pair_judge) or that scores whole answers"
        )
    return torch.tensor(given, dtype=torch.float64)[:, list(there)]
