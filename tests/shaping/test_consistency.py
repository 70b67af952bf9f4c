"""GRPO-CARE's bonus: four right answers of likelihood .9, .8, .4, .3, and what never earns it."""

import math

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.consistency import consistency_bonus

NAN = math.nan
NAMES = ("format", "correct")


def rows(likelihoods: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-likelihoods of answers behind one token of reasoning, with the spans that mark them."""
    width = 1 + max(map(len, likelihoods))
    logp, span = torch.full((len(likelihoods), width), -7.0), -torch.ones(len(likelihoods), width).long()
    for i, row in enumerate(likelihoods):
        logp[i, 1 : 1 + len(row)] = torch.tensor(row).log()
        span[i, 1 : 1 + len(row)] = 0
    return logp, span


def shaped(rewards, likelihoods, group=None, weights=(1.0, 1.0), **knobs):
    logp, span = rows(likelihoods)
    ids = torch.zeros(len(rewards), dtype=torch.long) if group is None else torch.tensor(group)
    table = torch.tensor(rewards)
    found = consistency_bonus(table, torch.tensor(weights), NAMES, ids, logp, span, **knobs)
    return torch.nansum((found - table) * torch.tensor(weights), -1).tolist()


def test_right_answers_above_the_mean_likelihood_earn_half_a_point():
    right = [[0.2, 1.0]] * 4
    # mean of .9, .8, .4, .3 is .6
    assert shaped(right, [[0.9], [0.8], [0.4], [0.3]]) == pytest.approx([0.5, 0.5, 0, 0])
    # an answer of two tokens counts by its geometric mean: sqrt(.9 * .4) = .6, above (.6 + .5)/2 = .55
    assert shaped(right[:2], [[0.9, 0.4], [0.5]]) == pytest.approx([0.5, 0])


def test_a_wrong_answer_earns_none_and_does_not_move_the_bar():
    # bar of the right ones (.5 + .3)/2 = .4; with the wrong one it would be .583
    assert shaped([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [[0.95], [0.5], [0.3]]) == pytest.approx([0, 0.5, 0])
    assert shaped([[1.0, 0.0], [0.0, 0.0]], [[0.9], [0.8]]) == [0, 0]


def test_partial_credit_counts_above_the_group_mean_and_scales_the_bonus():
    # mean reward (.8 + .5 + .2)/3 = .5: rows 0 and 1 are high; bar (.7 + .6)/2 = .65
    assert shaped([[0.0, 0.8], [0.0, 0.5], [0.0, 0.2]], [[0.7], [0.6], [0.9]]) == pytest.approx([0.4, 0, 0])
    assert shaped([[0.0, 0.1], [0.0, 0.1]], [[0.7], [0.6]]) == [0, 0], "the threshold itself is not above it"


def test_the_margin_the_ceiling_and_the_size():
    right = [[0.0, 1.0]] * 2
    assert shaped(right, [[0.50], [0.481]]) == pytest.approx([0.5, 0.5]), "the bar is .4905 less the margin .01"
    assert shaped(right, [[0.50], [0.47]]) == pytest.approx([0.5, 0])
    assert shaped(right, [[0.50], [0.47]], margin=0.02) == pytest.approx([0.5, 0.5])
    # above the ceiling all are alike: bar (.95 + .95)/2
    assert shaped(right, [[1.0], [0.951]]) == pytest.approx([0.5, 0.5])
    assert shaped(right, [[1.0], [0.951]], ceiling=1.0) == pytest.approx([0.5, 0])
    assert shaped(right, [[0.5], [0.3]], bonus=0.2) == pytest.approx([0.2, 0])
    assert shaped(right, [[0.5], [0.3]], bonus=0.0) == [0, 0]


def test_a_right_row_without_a_marked_answer_counts_as_impossible():
    # bar (0 + .4 + .3)/3 = .233
    assert shaped([[0.0, 1.0]] * 3, [[], [0.4], [0.3]]) == pytest.approx([0, 0.5, 0.5])


def test_groups_weights_and_rows_without_the_reward():
    rewards = [[0.0, 1.0], [0.0, 1.0], [0.5, NAN], [0.0, 1.0]]
    found = shaped(rewards, [[0.2], [0.4], [0.9], [0.1]], group=[3, 3, 3, 9], weights=(1.0, 4.0))
    assert found == pytest.approx([0, 0.5, 0, 0.5])
    with pytest.raises(ConfigError, match="'right'"):
        shaped(rewards, [[0.2]] * 4, reward="right")
