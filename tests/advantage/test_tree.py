"""Credit in trees: subgroups by shared segments, values of segments, and how a tree is read from its rows."""

import pytest
import torch

from rlpost.advantage.group import group_centred
from rlpost.advantage.tree import _values, nodes, subgroup_gain, treepo, treepo_segment

NAN = float("nan")


def tree(leaves, s=1):
    """Fields of leaves given as (parent, fork, segments), one group, `s` tokens a segment."""
    n, width = len(leaves), s * max(segments for _, _, segments in leaves)
    place = torch.arange(width).expand(n, width)
    length = s * torch.tensor([segments for _, _, segments in leaves])[:, None]
    return {
        "group": torch.zeros(n, dtype=torch.long),
        "trajectory": torch.arange(n),
        "parent": torch.tensor([parent for parent, _, _ in leaves]),
        "fork": torch.tensor([fork for _, fork, _ in leaves]),
        "span": torch.where(place < length, place // s, -1),
    }


# 1 -> 2 -> 4 leaves: 0 and 1 share their first segment, 2 and 3 theirs.
BINARY = tree([(-1, 0, 2), (0, 1, 2), (-1, 0, 2), (2, 1, 2)])


def gain(fields, rewards, **knobs):
    return subgroup_gain(torch.tensor(rewards), fields["group"], nodes(**fields), **knobs).tolist()


def whitened(values, mask):
    """From the definition: every token counts once, sample variance."""
    there = values[mask]
    return torch.where(mask, (values - there.mean()) / (there.var() + 1e-8).sqrt(), 0.0)


def test_the_papers_tree():
    """Depth 0: .25 .25 .25 -.75; depth 1: 0 0 .5 -.5; their means."""
    assert gain(BINARY, [1.0, 1, 1, 0]) == pytest.approx([0.125, 0.125, 0.375, -0.625])


def test_subgroups_may_weigh_by_their_size_or_have_to_differ():
    """(4 * .25 + 2 * 0) / 6, (4 * .25 + 2 * .5) / 6, -(4 * .75 + 2 * .5) / 6; flat subgroups leave depth 0 alone."""
    assert gain(BINARY, [1.0, 1, 1, 0], mode="group_size") == pytest.approx([1 / 6, 1 / 6, 1 / 3, -2 / 3])
    assert gain(BINARY, [1.0, 1, 1, 0], drop_flat=True) == pytest.approx([0.25, 0.25, 0.375, -0.625])


def test_the_sum_of_tokens_is_whitened():
    """Leaves of 4, 4, 3 and 2 tokens, so that they do not weigh the same."""
    fields = tree([(-1, 0, 2), (0, 2, 2), (-1, 0, 2), (2, 2, 2)], s=2)
    mask = torch.arange(4) < torch.tensor([4, 4, 3, 2])[:, None]
    found = treepo(torch.tensor([[1.0], [1], [1], [0]]), torch.ones(1), mask=mask, **fields)
    expected = torch.tensor([0.125, 0.125, 0.375, -0.625])[:, None].expand(4, 4)
    torch.testing.assert_close(found, whitened(expected, mask), rtol=1e-6, atol=1e-6)
    assert found[mask].mean().abs() < 1e-6 and found[~mask].eq(0).all()
    assert found[mask].var() == pytest.approx(1.0, abs=1e-5)


def test_without_a_shared_segment_it_is_the_centred_reward():
    fields = tree([(-1, 0, 2), (-1, 0, 1), (1, 0, 2)])
    rewards, weights, mask = torch.tensor([[1.0], [0], [0.25]]), torch.tensor([2.0]), torch.ones(3, 2, dtype=torch.bool)
    plain = group_centred(rewards, weights, fields["group"])[:, None].expand(3, 2)
    found = treepo(rewards, weights, mask=mask, **fields)
    torch.testing.assert_close(found, whitened(plain, mask), rtol=1e-6, atol=1e-6)


def test_a_row_alone_keeps_its_reward_and_rows_without_one_are_left_out():
    """Leaf 1 has no reward: leaf 0 is alone at depth 1, and the group's mean is of the others."""
    assert gain(tree([(-1, 0, 2)]), [0.75]) == [0.75]
    assert gain(BINARY, [1.0, NAN, 1, 0]) == pytest.approx([1 / 3, 0.0, (1 / 3 + 0.5) / 2, (-2 / 3 - 0.5) / 2])
    mask = torch.ones(4, 2, dtype=torch.bool)
    found = treepo(torch.tensor([[1.0], [NAN], [1], [0]]), torch.ones(1), mask=mask, **BINARY)
    assert found[1].eq(0).all() and found[[0, 2, 3]].mean().abs() < 1e-6


def test_groups_do_not_mix():
    both = {name: torch.cat([value, value]) for name, value in BINARY.items()}
    both["group"] = torch.tensor([0] * 4 + [1] * 4)
    assert gain(both, [1.0, 1, 1, 0, 0, 1, 0, 1]) == pytest.approx([0.125, 0.125, 0.375, -0.625, -0.5, 0.5, -0.5, 0.5])


def test_segments_get_what_they_change():
    """v: (4 * .25 + 2 * 0 + 0) / 7 = 1/7 twice, (4 * .25 + 2 * .5) / 7 = 2/7, -4/7. V of the first segments: 1/7, -1/7.

    Segments: 1/7 and 0 for leaves 0 and 1, -1/7 and 3/7 for leaf 2, -1/7 and -3/7 for leaf 3.
    """
    fields = tree([(-1, 0, 2), (0, 3, 2), (-1, 0, 2), (2, 3, 2)], s=3)
    mask = torch.arange(6) < torch.tensor([6, 5, 6, 4])[:, None]
    rewards = torch.tensor([[1.0], [1], [1], [0]])
    expected = torch.tensor([[1 / 7, 0], [1 / 7, 0], [-1 / 7, 3 / 7], [-1 / 7, -3 / 7]]).repeat_interleave(3, 1)
    found = treepo_segment(rewards, torch.ones(1), mask=mask, **fields)
    torch.testing.assert_close(found, whitened(expected, mask), rtol=1e-6, atol=1e-6)
    # eta = .5, L = 2: the second segment takes .5^(3 - 2) of its parent, the first the root's 0.
    halved = torch.tensor([[1 / 7, 1 / 14], [1 / 7, 1 / 14], [-1 / 7, 5 / 14], [-1 / 7, -1 / 2]])
    found = treepo_segment(rewards, torch.ones(1), mask=mask, eta=0.5, **fields)
    torch.testing.assert_close(found, whitened(halved.repeat_interleave(3, 1), mask), rtol=1e-6, atol=1e-6)


def test_a_value_is_the_mean_of_the_children_however_many_leaves_they_have():
    """Root segment a with children b (leaves 0 and 1 of value 1 and 3) and c (leaf 2 of value 8): (2 + 8) / 2 = 5.

    Leaf 3 left leaf 2 inside its last segment: that node has the leaf itself and its continuation as children.
    """
    fields = tree([(-1, 0, 3), (0, 2, 3), (0, 1, 2), (2, 2, 3)])
    ids = nodes(**fields)
    assert ids.tolist() == [[0, 1, 2], [0, 1, 3], [0, 4, -1], [0, 4, 5]]
    found = _values(torch.tensor([1.0, 3, 8, 4]), ids, torch.tensor([3, 3, 2, 3]))
    torch.testing.assert_close(found, torch.tensor([[4.0, 2, 1], [4, 2, 3], [4, 6, NAN], [4, 6, 4]]), equal_nan=True)


def test_a_leaf_of_a_branch_of_a_branch():
    """Leaf 2 left leaf 1 after the part that leaf 1 itself has from leaf 0; leaf 3 left it before."""
    fields = tree([(-1, 0, 3), (0, 1, 3), (1, 2, 3), (1, 1, 3)])
    assert nodes(**fields).tolist() == [[0, 1, 2], [0, 3, 4], [0, 3, 5], [0, 6, 7]]


def test_rows_of_a_tree_stay_or_leave_together():
    part = {name: value[1:] for name, value in BINARY.items()}
    with pytest.raises(ValueError, match="row 0 branched off trajectory 0 of its group, which is not there"):
        nodes(**part)
