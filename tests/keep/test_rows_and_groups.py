"""Which rows stay."""

import pytest
import torch

from rlpost import step
from rlpost.errors import ConfigError
from rlpost.keep.groups import mixed_groups
from rlpost.keep.rows import trained_rows, with_role
from tests import toy

NAN = float("nan")


def test_with_role():
    role = ("policy", "contrast", "expert", "policy")
    assert with_role(role).tolist() == [True, False, False, True]
    assert with_role(role, roles=("expert", "policy")).tolist() == [True, False, True, True]
    with pytest.raises(ConfigError, match="empty list"):
        with_role(role, roles=())


def test_rows_without_a_token_to_train_on_leave():
    mask = torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 1]]).bool()
    assert trained_rows(mask).tolist() == [True, False, True]


def test_mixed_groups():
    rewards = torch.tensor([[1.0], [0.0], [1.0], [1.0], [NAN], [2.0], [0.3], [0.1], [NAN]])
    group = torch.tensor([4, 1, 1, 4, 4, 0, 2, 2, 2])
    kept = mixed_groups(rewards, torch.ones(1), group)
    # group 4 has two equal scores, group 1 differs, group 0 is alone, group 2 differs beside an unscored row
    assert kept.tolist() == [False, True, True, False, False, False, True, True, True]
    assert not mixed_groups(rewards, torch.ones(1), group, tolerance=0.6).any()


def test_weights_decide_what_is_equal():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert not mixed_groups(rewards, torch.tensor([2.0, 1.0]), torch.zeros(2, dtype=torch.long)).any()
    assert mixed_groups(rewards, torch.ones(2), torch.zeros(2, dtype=torch.long)).all()


def test_dropped_groups_leave_the_counts():
    method = toy.recipe("dapo_full", "rollout.max_tokens=10")
    mask = torch.ones(5, 2, dtype=torch.bool)
    record = toy.scored(
        torch.tensor([[1.0], [1.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1, 1]), mask, -torch.ones(5, 2)
    )
    credit = step.score(record, method)
    counts = step.counts(credit.scored)
    assert credit.keep.tolist() == [False, False, True, True, True]
    assert (counts.rows, counts.tokens, counts.groups) == (3, 6, 1)
