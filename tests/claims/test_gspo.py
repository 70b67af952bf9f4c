"""gspo: one ratio per sequence is less noisy than one per token."""

import pytest
import torch

from rlpost.objective.clipped import gspo, ppo_clip


@pytest.mark.parametrize("seed", range(5))
def test_noise_falls_with_the_square_root_of_the_length(seed):
    rng = torch.Generator().manual_seed(seed)
    for length in (4, 64):
        old = -torch.rand(256, length, generator=rng) - 0.1
        logp = old + 0.1 * torch.randn(256, length, generator=rng)
        mask, advantage = torch.ones(256, length, dtype=torch.bool), torch.ones(256, length)
        sequence = gspo(logp, old, advantage, mask).metrics["ratio"].log().std()
        token = ppo_clip(logp, old, advantage).metrics["ratio"].log().std()
        assert (sequence / token).item() == pytest.approx(length**-0.5, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_one_outlying_token_is_not_clipped_away(seed):
    """A single token of ratio 1.5 among 1000 on-policy ones: GRPO silences it, GSPO moves the whole row a little."""
    rng = torch.Generator().manual_seed(seed)
    old = -torch.rand(1, 1000, generator=rng) - 0.1
    logp = old.clone()
    logp[0, 17] += 0.405
    logp.requires_grad_()
    advantage, mask = torch.ones(1, 1000), torch.ones(1, 1000, dtype=torch.bool)
    alone = torch.autograd.grad(ppo_clip(logp, old, advantage).value.sum(), logp)[0][0, 17]
    together = torch.autograd.grad(gspo(logp, old, advantage, mask, clip_high=5e-4).value.mean(), logp)[0][0, 17]
    assert alone == 0 and together < 0
