"""Outcome and steps mixed by hand; weights of classes by hand, over steps and through a restart."""

import math

import pytest
import torch

from rlpost.advantage.group import group_zscore
from rlpost.advantage.tango import ClassBalanced, tango
from rlpost.errors import ConfigError

NAN = math.nan
ONE = torch.ones(2)


def spans_of(*rows):
    """Scores (N,S,2) of steps in the second column."""
    width = max(len(row) for row in rows)
    table = torch.tensor([list(row) + [NAN] * (width - len(row)) for row in rows])
    return torch.stack([torch.full_like(table, NAN), table], dim=-1)


def rewards(outcomes, scores):
    """The two columns as the stack makes them: outcomes, and the mean over a row's steps."""
    return torch.stack([torch.tensor(outcomes), torch.nanmean(scores[..., 1], dim=1)], dim=-1)


def test_one_response_with_a_bad_step():
    """s = (1/3, -1/3, 1/3): mean 1/9, deviations (2, -4, 2)/9, population std sqrt(8/81) = .31427.

    s~ = (.7071, -1.4142, .7071), their sums from each on (0, -.7071, .7071). Alone in its group, it has no outcome.
    """
    scores = spans_of([1 / 3, -1 / 3, 1 / 3])
    span, mask = torch.tensor([[0, 0, 1, 2]]), torch.ones(1, 4, dtype=torch.bool)
    got = tango(rewards([1.0], scores), ONE, scores, torch.zeros(1).long(), span, mask, share=1.0, epsilon=0.0)
    root = math.sqrt(0.5)
    torch.testing.assert_close(got, torch.tensor([[0.0, 0.0, -root, root]]), atol=1e-5, rtol=0)
    assert got[0, 2] < got[0, 3] and got[0, 0] < got[0, 3]


def test_a_mixed_group():
    """Pool of the first group: (.5, -.5), (1,), (-.5, -.5): mean 0, so s~ = s / sqrt((4 * .25 + 1) / 5) = s / .632456.
    The third row of the group has no verdict and the outcome part alone: outcomes 1, 0, 1, 0 have mean .5 and sample
    std .57735. Rows 4 and 5 are another group, whose steps are equal."""
    scores = spans_of([0.5, -0.5], [1.0], [NAN, NAN], [-0.5, -0.5], [0.25], [0.25])
    span = torch.tensor([[0, 1, 1], [-1, 0, 0], [0, 1, 1], [0, 1, -1], [0, 0, 0], [0, 0, 0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 0]]).bool()
    group = torch.tensor([0, 0, 0, 0, 7, 7])
    table = rewards([1.0, 0.0, 1.0, 0.0, 0.0, 2.0], scores)
    got = tango(table, ONE, scores, group, span, mask, share=0.25, epsilon=0.0)
    a, unit = 0.75 * 0.5 / 0.57735, 0.25 / 0.632456
    b = 0.75 / math.sqrt(2)
    want = [
        [a + 0 * unit, a - 0.5 * unit, a],
        [-a, -a + unit, -a + unit],
        [a, a, a],
        [-a - unit, -a - 0.5 * unit, -a],
        [-b, -b, -b],
        [b, b, b],
    ]
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-5, rtol=0)


def test_a_bad_step_is_below_zero_and_a_good_one_above():
    scores = spans_of([1 / 3, -1 / 3, 1 / 3], [-0.5, 0.5])
    span, mask = torch.tensor([[0, 1, 2], [0, 1, -1]]), torch.ones(2, 3, dtype=torch.bool)
    got = tango(rewards([1.0, 1.0], scores), ONE, scores, torch.zeros(2).long(), span, mask, share=1.0)
    own = got[0] - torch.cat([got[0, 1:], torch.zeros(1)])
    assert own[0] > 0 > own[1] and own[2] > 0 and got[1, 0] - got[1, 1] < 0 < got[1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_without_a_share_of_the_steps_it_is_grpo(seed):
    rng = torch.Generator().manual_seed(seed)
    scores = spans_of(*torch.randn(6, 3, generator=rng).tolist())
    table, group = rewards(torch.randn(6, generator=rng).tolist(), scores), torch.tensor([0, 0, 0, 1, 1, 1])
    span, mask = torch.arange(3).expand(6, 3), torch.ones(6, 3, dtype=torch.bool)
    got = tango(table, ONE, scores, group, span, mask, share=0.0)
    torch.testing.assert_close(got, group_zscore(table[:, :1], ONE[:1], group)[:, None].expand(6, 3), atol=0, rtol=0)


NAMES = ("right", "outcome")
WEIGHTS = torch.tensor([1.0, 0.0])


def table(right, classes):
    return torch.stack([torch.tensor(right), torch.tensor(classes)], dim=-1)


def test_ninety_to_ten_weigh_three_to_one():
    """Groups of two with one right each, so |advantage| is equal; 90 rows of class 1: n_c s_c goes with sqrt(n_c)."""
    rows, group = table([1.0, 0.0] * 50, [1.0] * 90 + [0.0] * 10), torch.arange(100) // 2
    plain = group_zscore(rows, WEIGHTS, group).abs()
    got = ClassBalanced()(rows, WEIGHTS, group, NAMES).abs()
    assert float(plain[:90].sum() / plain[90:].sum()) == pytest.approx(9.0, rel=1e-5)
    assert float(got[:90].sum() / got[90:].sum()) == pytest.approx(3.0, rel=1e-5)
    # s = 100 / (sqrt 90 + sqrt 10) / sqrt n: 5/6 and 5/2, and .9 * 5/6 + .1 * 5/2 = 1
    assert float(got[0] / plain[0]) == pytest.approx(5 / 6, rel=1e-5)
    assert float(got[99] / plain[99]) == pytest.approx(5 / 2, rel=1e-5)


def test_the_weights_are_averaged_over_steps():
    """First 3 to 1: s_1 = 4 / (sqrt 3 + 1) / sqrt 3 = .845299, s_0 = 1.464102. Then 1 to 1, s = 1: .75 of the old and
    a quarter of the new. Then class 1 alone, s_1 = 1, and class 0 keeps its own."""
    made, group = ClassBalanced(momentum=0.75), torch.arange(4) // 2
    made.observe(table([1.0, 0.0] * 2, [1.0, 1.0, 1.0, 0.0]), NAMES)
    assert made.average == pytest.approx({"1": 0.845299, "0": 1.464102}, rel=1e-5)
    rows = table([1.0, 0.0] * 2, [1.0, 1.0, 0.0, 0.0])
    unit = float(group_zscore(rows, WEIGHTS, group)[0])
    for _ in range(2):  # asked twice, it has not moved
        got = made(rows, WEIGHTS, group, NAMES) / unit
        assert got.tolist() == pytest.approx([0.883974, -0.883974, 1.348076, -1.348076], rel=1e-5)
    made.observe(rows, NAMES)
    again = ClassBalanced(momentum=0.75)
    again.load_state_dict(made.state_dict())
    again.observe(table([1.0] * 4, [1.0] * 4), NAMES)
    assert again.average == pytest.approx({"1": 0.75 * 0.883974 + 0.25, "0": 1.348076}, rel=1e-5)


def test_rows_without_a_class_keep_their_advantage():
    rows, group = table([1.0, 0.0, 1.0, 0.0], [NAN, NAN, 1.0, 0.0]), torch.arange(4) // 2
    assert torch.equal(ClassBalanced()(rows, WEIGHTS, group, NAMES), group_zscore(rows, WEIGHTS, group))


def test_the_class_must_be_among_the_rewards():
    with pytest.raises(ConfigError, match=r"takes classes from reward.label; this run has \['right', 'outcome'\]"):
        ClassBalanced(label="label")(table([1.0], [1.0]), WEIGHTS, torch.zeros(1).long(), NAMES)
    with pytest.raises(ConfigError, match="a momentum from 0 to below 1, not 1"):
        ClassBalanced(momentum=1.0)
