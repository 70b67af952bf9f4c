"""fine_grained_rlhf: rewards per sentence blame the bad ones, one reward for the text praises or blames all of it."""

import pytest
import torch

from rlpost import spans, step
from tests import toy

TEXTS = 64


def texts(seed):
    """Texts of three sentences of 8 to 15 tokens, each good (1) or bad (-1) by the toss of a coin."""
    rng = torch.Generator().manual_seed(seed)
    ends = torch.randint(8, 16, (TEXTS, 3), generator=rng).cumsum(1)
    quality = 2.0 * torch.randint(0, 2, (TEXTS, 3), generator=rng) - 1
    place = torch.arange(int(ends.max()))
    mask = place < ends[:, -1:]
    span = torch.where(mask, (place[None, :, None] >= ends[:, None, :]).sum(-1), -1)
    return mask, span, quality


def right_signs(name, mask, span, quality):
    """The share of tokens whose advantage has the sign of their own sentence; none for an advantage of 0.

    A coin decides the quality, so a critic of 0 is the one that expects right.
    """
    table, old = quality[..., None], -torch.ones(mask.shape)
    record = toy.scored(
        spans.span_mean(table), torch.arange(TEXTS) // 4, mask, old, ref_logp=old, span=span, span_rewards=table,
        length=mask.sum(-1), value=torch.where(mask, 0.0, torch.nan),
    )  # fmt: skip
    credit = step.score(record, toy.recipe(name)).scored.advantage
    return (credit.sign() == spans.spread(quality, span, mask))[mask].float().mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_a_token_is_judged_by_its_own_sentence(seed):
    made = texts(seed)
    dense, whole = right_signs("fine_grained_rlhf", *made), right_signs("grpo", *made)
    assert dense > 0.85 and dense > whole + 0.15, (dense, whole)


def test_one_bad_sentence_of_three():
    """Sentences of ten tokens: the sign of every token's credit, before the step's mean is taken off."""
    quality, mask = torch.tensor([[1.0, -1.0, 1.0]]), torch.ones(1, 30, dtype=torch.bool)
    r = torch.zeros(1, 30)
    r[:, 9::10] = quality
    reach = 0.95 ** (torch.arange(30)[None, :] - torch.arange(30)[:, None]).clamp(min=0)
    g = (reach.triu() @ r[0]).sign()
    assert g.reshape(3, 10).tolist() == [[1.0] * 10, [-1.0] * 10, [1.0] * 10]
    span = torch.arange(30)[None] // 10
    record = toy.scored(
        torch.tensor([[1 / 3]]), torch.tensor([0]), mask, -torch.ones(1, 30), ref_logp=-torch.ones(1, 30), span=span,
        span_rewards=quality[..., None], value=torch.zeros(1, 30),
    )  # fmt: skip
    credit = step.score(record, toy.recipe("fine_grained_rlhf")).scored.advantage[0]
    assert (credit[10:20] < 0).all() and (credit[20:] > 0).all()
