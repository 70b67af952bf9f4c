"""prl_process: GRPO without the penalty; with it, credit knows where a completion leaves the reference."""

import pytest
import torch

from rlpost import step
from tests import toy


def credit(name, drift, rewards, *overrides):
    """Advantages of a group of four completions of twelve tokens in windows of four."""
    mask, group = torch.ones(4, 12, dtype=torch.bool), torch.zeros(4, dtype=torch.long)
    old = -1.0 - torch.rand(4, 12, generator=torch.Generator().manual_seed(9))
    span = torch.arange(12).expand(4, 12) // 4
    record = toy.scored(rewards, group, mask, old, ref_logp=old - drift, span=span)
    return step.score(record, toy.recipe(name, *overrides)).scored.advantage


@pytest.mark.parametrize("seed", range(3))
def test_without_drift_or_penalty_it_is_grpo(seed):
    rng = torch.Generator().manual_seed(seed)
    rewards, drift = torch.rand(4, 1, generator=rng), torch.randn(4, 12, generator=rng)
    grpo = credit("grpo", drift, rewards, "advantage.epsilon=1e-6")
    torch.testing.assert_close(credit("prl_process", 0 * drift, rewards), grpo, atol=1e-6, rtol=0)
    torch.testing.assert_close(credit("prl_process", drift, rewards, "advantage.eta=1e9"), grpo, atol=1e-6, rtol=0)
    found = credit("prl_process", drift, rewards)
    assert (found != grpo).all()
    for start in (0, 4, 8):
        assert (found[:, start : start + 4] == found[:, start : start + 1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_completion_that_leaves_the_reference_late_is_blamed_early_and_late(seed):
    """Drift in the last window is still to come at every earlier end; drift in the first is past at later ends."""
    rng = torch.Generator().manual_seed(seed)
    rewards, amount = torch.rand(4, 1, generator=rng), 1 + torch.rand(4, 4, generator=rng)
    none = torch.zeros(4, 8)
    plain = credit("prl_process", torch.zeros(4, 12), rewards)
    late = credit("prl_process", torch.cat([none, amount], 1), rewards) - plain
    early = credit("prl_process", torch.cat([amount, none], 1), rewards) - plain
    assert (late[:, :8] < late[:, 8:9]).all() and (late[:, 8:] < 0).all()
    assert (early[:, :4] < 0).all() and not early[:, 4:].any()


def both_arms(name, seed, *overrides):
    """A bandit whose arms 0 and 1 are right: accuracy, and the smaller share of the two among right answers."""
    logits, start = torch.zeros(1, 8), torch.zeros(1, 8)
    toy.train(
        logits, lambda q, t: (t < 2).float(), toy.recipe(name, *overrides), steps=200, lr=2.0, seed=seed,
        reference=start, more=lambda t: {"span": torch.zeros_like(t)},
    )  # fmt: skip
    p = logits.detach().softmax(-1)[0, :2]
    return p.sum().item(), (p.min() / p.sum()).item()


@pytest.mark.parametrize("seed", range(3))
def test_more_than_one_right_answer_stays_likely(seed):
    right, share = both_arms("prl_process", seed, "advantage.eta=5")
    grpo_right, grpo_share = both_arms("grpo", seed)
    assert min(right, grpo_right) > 0.9, (right, grpo_right)
    assert share > grpo_share + 0.1, (share, grpo_share)
