"""copg: on data of any origin the policy goes to ref * exp(reward / beta), where a policy gradient goes elsewhere."""

import pytest
import torch

from tests import toy

BETA = 0.5


@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_reached_from_uniform_data(seed):
    """Three arms; the data are uniform, the reference is not; RLOO gets the same data, updates and penalty."""
    rng = torch.Generator().manual_seed(seed)
    reference, values = torch.randn(1, 3, generator=rng), torch.rand(3, generator=rng)
    target = (reference[0] + values / BETA).softmax(-1)
    distance = {}
    for name, knobs in (("copg", [f"objective.beta={BETA}"]), ("rloo", [f"shaping.kl_penalty.coef={BETA}"])):
        logits = reference.clone()
        toy.train(
            logits, lambda _, t: values[t], toy.recipe(name, *knobs), steps=60, lr=1.0, seed=seed, n=24, updates=5,
            behaviour=torch.zeros(1, 3), reference=reference,
        )  # fmt: skip
        distance[name] = (logits.detach().softmax(-1)[0] - target).abs().max().item()
    assert distance["copg"] < 0.01 and distance["rloo"] > 0.05, distance
