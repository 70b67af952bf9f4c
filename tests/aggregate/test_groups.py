"""The mean over groups: uneven groups and lengths, an empty row, and its reduction."""

import torch

from rlpost.aggregate.groups import group_mean, role_fixed_length, role_mean
from rlpost.aggregate.means import fixed_length, row_mean
from rlpost.types import Counts

MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]]).bool()
GROUP = torch.tensor([3, 3, 3, 8, 8])


def test_groups_weigh_the_same_whatever_their_rows():
    found = group_mean(MASK, GROUP, Counts(rows=6, tokens=9, groups=4))
    # three rows in one group, one with tokens in the other, four groups in the step
    wanted = torch.tensor([[1 / 24, 1 / 24, 0], [1 / 12, 0, 0], [1 / 36] * 3, [0] * 3, [0, 1 / 8, 1 / 8]])
    torch.testing.assert_close(found, wanted)


def test_it_is_the_row_mean_of_even_groups():
    counts = Counts(rows=4, tokens=8, groups=2)
    mask = MASK[[0, 1, 2, 4]]
    torch.testing.assert_close(group_mean(mask, torch.tensor([1, 0, 0, 1]), counts), row_mean(mask, counts))


ROLE = ("policy", "expert", "policy", "policy", "policy")


def test_roles_weigh_the_same_whatever_their_rows():
    """Two rows of the policy and one expert's in the first group, one with tokens in the other; three groups."""
    counts = Counts(rows=7, tokens=9, groups=3)
    wanted = torch.tensor([[1 / 12, 1 / 12, 0], [1 / 3, 0, 0], [1 / 18] * 3, [0] * 3, [0, 1 / 6, 1 / 6]])
    torch.testing.assert_close(role_mean(MASK, GROUP, ROLE, counts), wanted)
    fixed = torch.tensor([[1 / 60, 1 / 60, 0], [1 / 30, 0, 0], [1 / 60] * 3, [0] * 3, [0, 1 / 30, 1 / 30]])
    torch.testing.assert_close(role_fixed_length(MASK, GROUP, ROLE, counts, max_tokens=10), fixed)


def test_one_role_is_no_role():
    counts = Counts(rows=4, tokens=8, groups=2)
    alone, group, mask = ("policy",) * 4, torch.tensor([1, 0, 0, 1]), MASK[[0, 1, 2, 4]]
    torch.testing.assert_close(role_mean(MASK, GROUP, ("policy",) * 5, counts), group_mean(MASK, GROUP, counts))
    torch.testing.assert_close(
        role_fixed_length(mask, group, alone, counts, max_tokens=9), fixed_length(mask, counts, max_tokens=9)
    )
