"""Rewards by the rarity of a format."""

import functools
import math

import pytest
import torch

from rlpost import catalogue
from rlpost.advantage.group import group_zscore
from rlpost.config import build
from rlpost.errors import ConfigError
from rlpost.schedule import bind
from rlpost.shaping.diversity import format_diversity

NAN = math.nan
NAMES = ("correct", "opening")


def shaped(right, form, group=None, **knobs):
    rewards = torch.stack([torch.tensor(right), torch.tensor(form)], dim=1)
    group = torch.zeros(len(rewards)).long() if group is None else torch.tensor(group)
    return format_diversity(rewards, NAMES, group, **knobs)


def test_the_papers_group():
    """Seven long and one short, all right: 8/7 and 8; mean 2, sample deviation sqrt((7 * 36/49 + 36) / 7) = 2.4244."""
    found = shaped([1.0] * 8, [3.0] * 7 + [1.0])
    assert found[:, 0].tolist() == pytest.approx([8 / 7] * 7 + [8])
    credit = group_zscore(found, torch.tensor([1.0, 0.0]), torch.zeros(8).long(), epsilon=1e-6)
    assert credit[[0, 7]].tolist() == pytest.approx([-0.354, 2.475], abs=1e-3)
    end = shaped([1.0] * 8, [3.0] * 7 + [1.0], strength=0.0)
    assert group_zscore(end, torch.tensor([1.0, 0.0]), torch.zeros(8).long()).tolist() == [0.0] * 8


def test_counts_are_those_of_the_own_group_and_unknown_formats_earn_nothing():
    # group 2: formats 0, 0, ?, 3 of four rows; group 7: 0 and 1
    right, form = [1.0, 0.5, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, NAN, 0.0, 3.0, 1.0]
    found = shaped(right, form, [2, 7, 2, 2, 2, 7], strength=0.5)
    # 1 + (4/2 - 1)/2, 1 + (2/1 - 1)/2, unknown, as the first, 1 + (4 - 1)/2, a wrong one
    assert found[:, 0].tolist() == pytest.approx([1.5, 0.75, 0, 1.5, 2.5, 0])
    torch.testing.assert_close(found[:, 1], torch.tensor(form), equal_nan=True)


def test_an_unknown_format_is_no_format_of_its_own():
    """The row of format 0 is alone in it, whatever number stands for the unknown ones."""
    assert shaped([1.0, 1.0, 1.0], [0.0, NAN, NAN])[:, 0].tolist() == [3, 0, 0]


def test_a_reward_that_does_not_apply_stays_so():
    assert shaped([NAN, NAN], [NAN, 0.0])[:, 0].isnan().all()


@pytest.mark.parametrize(
    ("progress", "factor"), [(0.0, 8.0), (0.25, 1 + 3.5 * (1 + math.sqrt(0.5))), (0.5, 4.5), (1.0, 1.0)]
)
def test_the_options_schedule_is_the_papers(progress, factor):
    """alpha = 1 + 0.5 (G/F - 1)(1 + cos(pi t/T)) with G/F = 8."""
    shape = build(catalogue.read_yaml(catalogue.options("shaping", [catalogue.recipes_dir()])["format_diversity"]))
    assert isinstance(shape, functools.partial)
    rewards = torch.tensor([[1.0, 3.0]] * 7 + [[1.0, 1.0]])
    found = bind(shape, 10, progress)(rewards, NAMES, torch.zeros(8).long())
    assert found[7, 0].item() == pytest.approx(factor, rel=1e-6)


def test_a_missing_label_is_a_sentence():
    with pytest.raises(ConfigError, match="reads the column 'form'"):
        shaped([1.0], [1.0], label="form")
