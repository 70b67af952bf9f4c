"""Which tokens of a beginning train."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.token_weight.expert import expert_entropy

ENTROPY = torch.tensor([[0.3, 0.9, 0.1, 0.5, 0.7, 2.0, 2.0], [0.1, 0.2, 0.2, 0.4, 0.0, 0.0, 0.0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]]).bool()
SOURCE = (("expert",) * 5 + ("policy",) * 2, ("expert", "expert", "expert", "policy"))
UP = torch.ones(2, 7)


@pytest.mark.parametrize(
    ("share", "first", "second"),
    [
        (0.0, [0, 0, 0, 0, 0], [0, 0, 0]),
        (0.2, [0, 1, 0, 0, 0], [0, 1, 0]),  # ceil(0.2 * 5) = 1, ceil(0.2 * 3) = 1: of equals the earlier
        (0.4, [0, 1, 0, 0, 1], [0, 1, 1]),  # 2 of 5, ceil(1.2) = 2 of 3
        (1.0, [1, 1, 1, 1, 1], [1, 1, 1]),
    ],
)
def test_the_least_certain_tokens_of_the_expert(share, first, second):
    found = expert_entropy(ENTROPY, UP, MASK, SOURCE, share=share)
    assert found[0].tolist() == [*first, 1, 1] and found[1, :4].tolist() == [*second, 1]


@pytest.mark.parametrize(("n", "share", "kept"), [(10, 0.2, 2), (15, 0.2, 3), (7, 1 / 7, 1), (11, 0.2, 3)])
def test_a_share_that_is_a_whole_number_is_not_rounded_up(n, share, kept):
    entropy = torch.rand(1, n, generator=torch.Generator().manual_seed(n))
    mask = torch.ones(1, n, dtype=torch.bool)
    assert expert_entropy(entropy, mask.float(), mask, (("expert",) * n,), share=share).sum() == kept


def test_a_failed_row_pushes_its_beginning_down_unless_told_otherwise():
    advantage = torch.tensor([[-1.0] * 7, [1.0] * 7])
    both = expert_entropy(ENTROPY, advantage, MASK, SOURCE)
    assert both[0].tolist() == [0, 1, 0, 0, 0, 1, 1]
    found = expert_entropy(ENTROPY, advantage, MASK, SOURCE, positive_only=True)
    assert found[0].tolist() == [0, 0, 0, 0, 0, 1, 1] and found[1, :4].tolist() == [0, 1, 0, 1]


def test_tokens_that_do_not_train_are_not_counted():
    mask = MASK.clone()
    mask[0, 1] = False
    assert expert_entropy(ENTROPY, UP, mask, SOURCE)[0].tolist()[2:] == [0, 0, 1, 1, 1]


def test_a_share_is_a_share():
    with pytest.raises(ConfigError, match="share=20"):
        expert_entropy(ENTROPY, UP, MASK, SOURCE, share=20)
