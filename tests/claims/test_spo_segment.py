"""spo_segment: only the segment that decides the reward gets credit, where GRPO pushes all of them alike."""

import pytest
import torch

from rlpost import spans, step
from tests import toy

SEGMENT, N = 4, 64  # tokens in each of three segments, completions


def sampled(seed):
    """A policy with four tokens for each of twelve places; the fifth token decides: 1 where it is 0.

    Returns the logits, the tokens, and the record with the exact value of the text before each segment.
    """
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(3 * SEGMENT, 4, generator=rng)
    p = logits.softmax(-1)
    tokens = torch.multinomial(p, N, replacement=True, generator=rng).T
    reward = (tokens[:, SEGMENT] == 0).float()
    chance = p[SEGMENT, 0].expand(N)
    values = torch.stack([chance, chance, reward], dim=1)
    table = torch.stack([torch.full_like(values, torch.nan), values], dim=-1)
    rewards = torch.stack([reward, spans.span_mean(table)[:, 1]], dim=1)
    record = toy.scored(
        rewards, torch.zeros(N, dtype=torch.long), torch.ones(N, 3 * SEGMENT, dtype=torch.bool),
        chosen(logits, tokens), [1.0, 0.0], reward_names=("correct", "prefix_value"), tokens=tokens,
        span=(torch.arange(3 * SEGMENT) // SEGMENT).expand(N, -1), span_rewards=table,
        gen_logp=torch.full((N, 3 * SEGMENT), -1.0),
    )  # fmt: skip
    return logits, tokens, record


def chosen(logits, tokens):
    return torch.log_softmax(logits, -1).expand(N, -1, -1).gather(-1, tokens[..., None])[..., 0]


def gradient(name, seed):
    """The credit by segment, and how hard each segment's logits are pushed."""
    logits, tokens, record = sampled(seed)
    logits.requires_grad_()
    method = toy.recipe(name)
    credit = step.score(record, method).scored
    value, _ = step.loss(toy.batch(credit, chosen(logits, tokens)), method, step.counts(credit))
    grad = torch.autograd.grad(value, logits)[0].reshape(3, SEGMENT, 4)
    return credit.advantage.reshape(N, 3, SEGMENT), grad.flatten(1).norm(dim=1), record


@pytest.mark.parametrize("seed", range(3))
def test_credit_falls_on_the_segment_that_decides(seed):
    credit, push, _ = gradient("spo_segment", seed)
    assert not credit[:, [0, 2]].any() and credit[:, 1].ne(0).all()
    assert push[0] == push[2] == 0 and push[1] > 0
    plain, everywhere, _ = gradient("grpo", seed)
    assert (plain == plain[:, :1, :1]).all() and plain.ne(0).all()
    assert everywhere[0] > 0.1 * everywhere[1] and everywhere[2] > 0.1 * everywhere[1], everywhere


@pytest.mark.parametrize("seed", range(3))
def test_credits_add_up_to_the_reward_less_the_first_value(seed):
    credit, _, record = gradient("spo_segment", seed)
    want = record.rewards[:, 0] - record.span_rewards[:, 0, 1]
    torch.testing.assert_close(credit[:, :, 0].sum(1), want, atol=1e-6, rtol=0)
