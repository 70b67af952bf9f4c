"""Credit in a tree of completions: a leaf is judged against those it shares a beginning with, at every depth.

Rows carry the tree as rollout=treepo writes it: a row has its first `fork` tokens from the row of its group whose
`trajectory` is its `parent`, and `span` numbers its segments.
"""

from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from rlpost.advantage.total import weighted_sum
from rlpost.masked import group_count, group_mean, group_std, masked_mean
from rlpost.spans import NS, Span, spread
from rlpost.types import NK, NT, Ids, K, Mask, N

Nodes = Int[Tensor, "N S"]


def treepo(
    rewards: NK,
    weights: K,
    group: Ids,
    trajectory: Ids,
    parent: Ids,
    fork: Ids,
    span: Span,
    mask: Mask,
    *,
    mode: Literal["average", "group_size"] = "average",
    drop_flat: bool = False,
    epsilon: float = 1e-8,
) -> NT:
    """A leaf's reward less the mean of each subgroup that shares its first segments, then whitened (TreePO).

    Equation:
        a_d = r - mean of r over the leaves that share the row's first d segments, d = 0, 1, ..
        A = mean_d a_d (average), or sum_d n_d a_d / sum_d n_d (group_size), n_d leaves sharing d segments
        advantage = (A - mean A) / sqrt(var A + epsilon), over all tokens of the step

    Reduces to:
        group_centred, whitened, where no two rows share a segment.

    Edge cases:
        Depth 0 is the whole group and always counts; deeper ones do where 2 or more leaves share them, and with
        drop_flat where their rewards differ. A row alone in its group has no mean to lose. Rows to which no reward
        applies have advantage 0 and are left out of all statistics, the last line's too. Whitening has mean 0 over the
        tokens, so a group without signal among others with some is not 0. keep may only drop whole groups.

    Paper:
        TreePO, arXiv 2508.17445; mode average is the released run's. No division by a subgroup's deviation.
    """
    r = weighted_sum(rewards, weights)
    gain = subgroup_gain(r, group, nodes(group, trajectory, parent, fork, span), mode=mode, drop_flat=drop_flat)
    return _whitened(gain[:, None].expand(mask.shape), mask & ~torch.isnan(r)[:, None], epsilon)


def treepo_segment(
    rewards: NK,
    weights: K,
    group: Ids,
    trajectory: Ids,
    parent: Ids,
    fork: Ids,
    span: Span,
    mask: Mask,
    *,
    eta: float = 1.0,
    epsilon: float = 1e-8,
) -> NT:
    """A segment's tokens get what the segment changed in the value of its path (TreePO's segment variant).

    Equation:
        v of a leaf = sum_d n_d a_d / sum_d n_d over d = 0 .. L, its own segment (n = 1) included
        V(node) = mean of its children's, bottom up; V(root) = 0
        A of segment i = V(node_i) - eta^(L + 1 - i) V(node_(i-1)), i = 1 .. L
        advantage = (A - mean A) / sqrt(var A + epsilon), over all tokens of the step

    Reduces to:
        v of its leaf, summed over a row's segments, for eta 1 and before the last line.

    Edge cases:
        A leaf that ends inside a node which others continue is one of that node's children. Tokens in no span get 0.
        Rows to which no reward applies have advantage 0 and no part in any value. keep may only drop whole groups.

    Paper:
        TreePO, arXiv 2508.17445, released code: eta is off there, which is 1 here.
    """
    r = weighted_sum(rewards, weights)
    ids = nodes(group, trajectory, parent, fork, span)
    length = (ids >= 0).sum(1)
    gain = subgroup_gain(r, group, ids, mode="group_size", own=True)
    value = _values(torch.where(torch.isnan(r), torch.nan, gain), ids, length)
    before = torch.cat([torch.zeros_like(value[:, :1]), value[:, :-1]], dim=1)
    power = (length[:, None] - torch.arange(value.shape[1])).clamp(min=0)
    change = spread(torch.nan_to_num(value - eta**power * before, nan=0.0), span, mask)
    return _whitened(change, mask & ~torch.isnan(r)[:, None] & (span >= 0), epsilon)


def nodes(group: Ids, trajectory: Ids, parent: Ids, fork: Ids, span: Span) -> Nodes:
    """The number of the tree's node for each segment of each row, -1 behind a row's last.

    Two rows have the same number where they share the segment, or the beginning of it at which they part. Raises
    ValueError where the row that another one left is not there.
    """
    width = int(span.max()) + 1 if span.numel() else 0
    place = {(int(g), int(t)): i for i, (g, t) in enumerate(zip(group, trajectory, strict=True))}
    found = torch.full((len(group), width), -1)
    numbers: dict[tuple[int, int], int] = {}
    for row in range(len(group)):
        for s in range(int(span[row].max()) + 1 if width else 0):
            start, owner = int((span[row] == s).nonzero()[0]), row
            while int(parent[owner]) >= 0 and start < int(fork[owner]):
                left = (int(group[row]), int(parent[owner]))
                if left not in place:
                    raise ValueError(
                        f"row {owner} branched off trajectory {left[1]} of its group, which is not there; a keep rule "
                        "beside a tree may only drop whole groups"
                    )
                owner = place[left]
            found[row, s] = numbers.setdefault((owner, s), len(numbers))
    return found


def subgroup_gain(
    r: N,
    group: Ids,
    ids: Nodes,
    *,
    mode: Literal["average", "group_size"] = "average",
    drop_flat: bool = False,
    own: bool = False,
) -> N:
    """A of treepo before it is whitened; 0 where no reward applies. `own` counts subgroups of one leaf as well."""
    size = group_count(r, group)
    total = torch.where(size > 1, r - group_mean(r, group), r)
    if mode == "average":
        size = torch.ones_like(size)
    terms, shares = [total * size], [size]
    for depth in range(ids.shape[1]):
        there = ids[:, depth] >= 0
        node = torch.where(there, ids[:, depth], -1 - torch.arange(len(ids)))  # behind its last segment a row is alone
        leaves = group_count(r, node)
        counts = there & ((leaves > 1) | own)
        if drop_flat:
            counts &= group_std(r, node) > 0
        share = torch.where(counts, torch.ones_like(leaves) if mode == "average" else leaves, 0.0)
        terms.append((r - group_mean(r, node)) * share)
        shares.append(share)
    return torch.nan_to_num(torch.stack(terms).sum(0) / torch.stack(shares).sum(0).clamp(min=1), nan=0.0)


def _values(leaf: N, ids: Nodes, length: Tensor) -> NS:
    """V of each row's nodes from the values of the leaves, NaN behind a row's last segment."""
    value = torch.full(ids.shape, torch.nan)
    for depth in range(ids.shape[1] - 1, -1, -1):
        children: dict[int, dict[int, float]] = {}
        for row in range(len(ids)):
            node = int(ids[row, depth])
            if node < 0:
                continue
            ends = int(length[row]) == depth + 1
            child, worth = (-1 - row, leaf[row]) if ends else (int(ids[row, depth + 1]), value[row, depth + 1])
            if not torch.isnan(worth):
                children.setdefault(node, {})[child] = float(worth)
        for row in range(len(ids)):
            known = children.get(int(ids[row, depth]))
            if known:
                value[row, depth] = sum(known.values()) / len(known)
    return value


def _whitened(values: NT, mask: Mask, epsilon: float) -> NT:
    """Mean 0 and sample variance 1 over the tokens where `mask`, 0 elsewhere."""
    centred = torch.where(mask, values - masked_mean(values, mask), 0.0)
    variance = (centred**2).sum() / (mask.sum() - 1).clamp(min=1)
    return torch.where(mask, centred / (variance + epsilon).sqrt(), 0.0)
