"""sppo: rock, paper, scissors has no best answer, only a mixture; and an answer moves by its own chance alone."""

import functools
import math

import pytest
import torch

from rlpost.build.extremes import best_and_worst
from rlpost.build.wins import win_matrix
from rlpost.preference.direct import dpo
from rlpost.preference.self_play import sppo
from tests.build.rows import said
from tests.claims.arms import answers, prefer

# Log-odds of the row's answer against the column's: 0.9 to 0.1 around the circle.
ODDS = math.log(9) * torch.tensor([[0.0, 1.0, -1.0], [-1.0, 0.0, 1.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
WINS = torch.sigmoid(ODDS)


def compared(policy, rng, times):
    """Groups of five answers, each scored against every member of its group."""
    rows = answers(policy, 5, rng, lambda p, a: 0.0, times=times)
    for start in range(0, len(rows), 5):
        group = rows[start : start + 5]
        for one in group:
            one.scores["pair"] = [ODDS[int(one.text), int(other.text)].item() for other in group]
    return rows


def exploitability(policy):
    """How much more than half the best answer wins against a policy."""
    return (WINS @ policy).max().item() - 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_average_of_the_rounds_approaches_the_mixture_that_nothing_beats(seed):
    rng = torch.Generator().manual_seed(seed)
    policy = torch.tensor([[1.5, 0.0, -1.0]], dtype=torch.float64)
    seen = [policy.softmax(-1)[0]]
    for _ in range(60):
        pairs = win_matrix(compared(policy, rng, 60), reward="pair")
        prefer(
            policy,
            policy.clone(),
            pairs,
            functools.partial(sppo, beta=1.0),
            lr=0.5,
            steps=10,
            facts=("chosen_win", "rejected_win"),
        )
        seen.append(policy.softmax(-1)[0])
    start, average = exploitability(seen[0]), torch.stack(seen).mean(0)
    assert exploitability(average) < min(start / 3, exploitability(seen[-1])), (start, average, seen[-1])


def test_scores_of_their_own_cannot_tell_three_answers_apart():
    """Against the uniform mixture each wins half the time: a Bradley-Terry score is the same for all, so no pair."""
    chance = WINS.mean(-1)
    assert torch.allclose(chance, torch.full((3,), 0.5, dtype=torch.float64), atol=1e-12)
    rows = [said("q", str(arm), round(chance[arm].item(), 9)) for arm in range(3)]
    assert best_and_worst(rows) == []


def test_both_answers_of_a_pair_may_rise_which_dpo_cannot_do():
    """Both win more than half against the policy: SPPO raises both logits of the pair, DPO lowers one."""
    pair = win_matrix([said("0", text, value) for text, value in (("0", 3.0), ("1", 2.9), ("2", -3.0), ("2", -3.0))])
    row = pair[0]
    row.columns.update(chosen="0", rejected="1", chosen_win=0.73, rejected_win=0.71)
    start = torch.zeros(1, 3, dtype=torch.float64)
    moved = {}
    for name, loss, facts in (
        ("sppo", functools.partial(sppo, beta=1.0), ("chosen_win", "rejected_win")),
        ("dpo", dpo, ()),
    ):
        policy = start.clone()
        prefer(policy, start, [row], loss, lr=0.1, facts=facts)
        moved[name] = (policy.log_softmax(-1) - start.log_softmax(-1))[0, :2].tolist()
    assert moved["sppo"][0] > 0 and moved["sppo"][1] > 0
    assert moved["dpo"][0] > 0 > moved["dpo"][1]
