"""SEED-GRPO by hand: the factor of a prompt follows from the entropy of its answers."""

import math

import pytest
import torch

from rlpost.advantage.group import group_centred
from rlpost.advantage.uncertainty import semantic_entropy_scaled
from rlpost.errors import ConfigError

NAN = math.nan
NAMES, WEIGHTS = ("correct", "answer_cluster"), torch.tensor([1.0, 9.0])
RIGHT = [1.0, 1, 0, 0, 0, 0, 0, 0]


def scaled(clusters, right=RIGHT, logp=None, group=None, **knobs):
    """The advantage of rows of 3 tokens, the last one outside the mask; `logp` is the mean of the others."""
    n = len(right)
    rewards = torch.tensor([right, clusters]).T
    mean = torch.full((n,), -1.0) if logp is None else torch.tensor(logp)
    old = torch.stack([mean - 0.5, mean + 0.5, torch.full((n,), -9.0)], dim=1)
    mask = torch.tensor([True, True, False]).expand(n, 3)
    ids = torch.zeros(n, dtype=torch.long) if group is None else torch.tensor(group)
    return semantic_entropy_scaled(rewards, WEIGHTS, ids, NAMES, old, mask, **knobs)


@pytest.mark.parametrize(
    ("decay", "factor"),
    [
        ("reciprocal", lambda x: 1 / (1 + 0.5 * x)),
        ("linear", lambda x: 1 - 0.5 * x),
        ("exponential", lambda x: math.exp(-0.5 * x)),
        ("focal", lambda x: (1 - x) ** 0.5),
    ],
)
def test_two_clusters_of_equal_rows(decay, factor):
    # shares 2/8 and 6/8: entropy .562 nats of log 8 = 2.079; mean reward 1/4
    x = (0.25 * math.log(4) + 0.75 * math.log(4 / 3)) / math.log(8)
    assert pytest.approx(0.562, abs=5e-4) == x * math.log(8)
    found = scaled([0.0, 0, 1, 1, 1, 1, 1, 1], alpha=0.5, decay=decay)
    assert found.tolist() == pytest.approx([0.75 * factor(x)] * 2 + [-0.25 * factor(x)] * 6, abs=1e-6)
    assert found.sum().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("alpha", "ratio"), [(0.0417, 0.974), (1.0, 0.66)])
def test_scattered_against_settled(alpha, ratio):
    settled = scaled([0.0, 0, 1, 1, 1, 1, 1, 1], alpha=alpha)[0]
    scattered = scaled([0.0, 0, 1, 2, 3, 4, 5, 6], alpha=alpha)[0]  # 1.906 nats
    assert (scattered / settled).item() == pytest.approx(ratio, abs=1e-3 if alpha < 1 else 5e-3)


def test_shares_are_likelihoods_per_token():
    # exp(l) = 3, 1 and 1 fifths of the group: clusters of .8 and .2
    found = scaled([0.0, 0, 1], [1.0, 0, 0], logp=[math.log(0.6), math.log(0.2), math.log(0.2)], alpha=1.0)
    x = -(0.8 * math.log(0.8) + 0.2 * math.log(0.2)) / math.log(3)
    assert found[0].item() == pytest.approx(2 / 3 / (1 + x), abs=1e-6)


def test_reductions_and_edges():
    four = torch.tensor(RIGHT[:4])[:, None]
    plain = group_centred(four, torch.ones(1), torch.zeros(4, dtype=torch.long))
    for decay in ("reciprocal", "linear", "exponential", "focal"):
        assert torch.equal(scaled([0.0, 1, 2, 3], RIGHT[:4], alpha=0.0, decay=decay), plain)
    assert scaled([0.0, 1, 2, 3], RIGHT[:4], alpha=1.0)[0].item() == pytest.approx(0.5 / 2), "all differ: x = 1"
    assert scaled([0.0, 1, 2, 3], RIGHT[:4], alpha=2.0, decay="linear").eq(0).all(), "never negative"
    assert scaled([5.0] * 4, RIGHT[:4], alpha=1.0)[0].item() == pytest.approx(0.5), "one cluster: x = 0"
    assert scaled([NAN] * 4, RIGHT[:4], alpha=1.0)[0].item() == pytest.approx(0.25), "no cluster: one's own"
    # group 7 alone; group 2: a row without a reward has none, and its cluster counts (x = 1)
    found = scaled([0.0, 0, 1, 2], [1.0, 1, NAN, 0], group=[7, 2, 2, 2], alpha=1.0)
    assert found.tolist() == pytest.approx([0, 0.25, 0, -0.25])


def test_clusters_of_one_number_in_two_groups_are_two():
    found = scaled([0.0, 1, 0, 0], [1.0, 0, 1, 0], group=[1, 1, 4, 4], alpha=1.0)
    assert found.tolist() == pytest.approx([0.25, -0.25, 0.5, -0.5])


def test_what_it_needs():
    args = (torch.ones(2, 1), torch.ones(1), torch.zeros(2, dtype=torch.long))
    old, mask = -torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ConfigError, match="reads the reward 'answer_cluster'; this run has \\['correct'\\]"):
        semantic_entropy_scaled(*args, ("correct",), old, mask)
    with pytest.raises(ConfigError, match="needs a reward besides the clusters"):
        semantic_entropy_scaled(*args, ("answer_cluster",), old, mask)
