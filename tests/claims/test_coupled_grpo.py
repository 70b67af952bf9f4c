"""coupled_grpo: masks that complement each other estimate a row's log-probability with less variance than two apart.

With c the log-probability of each of n tokens, the part views sum to c (|M| / t + (n - |M|) / (1 - t)), whose variance
given t is c^2 n (1 - 2t)^2 / (t (1 - t)). Masks apart have c^2 n (1 - t) / t each; both have the mean 2 c n. Over
t ~ U(0.2, 0.8) the ratio of the variances is (E[1 / (t (1 - t))] - 4) / (2 (E[1 / t] - 1)).
"""

import math

import pytest
import torch

from rlpost.likelihood.masked import masked, masked_apart
from rlpost.likelihood.scoring import Ask, Rows, teach
from rlpost.models.positions import position_ids
from rlpost.models.tiny_diffusion import diffusion_tiny
from rlpost.types import Task

ROWS, TOKENS = 400, 16


def estimates(likelihood, seed, *, uniform=False):
    """(ROWS,) sums of logp of one completion under as many seeds of its masks."""
    bundle = diffusion_tiny(seed=seed)
    rng = torch.Generator().manual_seed(seed)
    answer = torch.randint(4, len(bundle.encoder.tokenizer), (TOKENS,), generator=rng).tolist()
    prompt = bundle.encoder.prompt(Task("t", [{"role": "user", "content": "write f"}]))
    inputs = bundle.encoder.collate([prompt] * ROWS, [answer] * ROWS)
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    teach(bundle.model)
    if uniform:
        with torch.no_grad():
            bundle.model.get_output_embeddings().weight.zero_()
    ask = Ask(
        torch.ones(ROWS, TOKENS, dtype=torch.bool), 1.0, bundle.encoder.suppress, seeds=[str(i) for i in range(ROWS)]
    )
    with torch.no_grad():
        return likelihood(bundle.model, Rows(inputs, ask)).logp.double().sum(-1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coupled_masks_vary_less_than_masks_apart_at_the_same_number_of_passes(seed):
    coupled, apart = estimates(masked, seed), estimates(masked_apart, seed)
    # 400 draws know a standard deviation to 1 / sqrt(2 * 400) = 3.5%, and so a ratio of two variances to about 10%.
    assert coupled.var() < 0.5 * apart.var()
    error = float((coupled.var() / ROWS + apart.var() / ROWS).sqrt())
    assert abs(float(coupled.mean() - apart.mean())) < 4 * error, "both must estimate the same"


def test_the_ratio_of_the_variances_is_the_one_derived():
    inverse = math.log(0.8 / 0.2) / 0.6  # E[1 / t] = E[1 / (1 - t)]
    wanted = (2 * inverse - 4) / (2 * (inverse - 1))  # 1 / (t (1 - t)) = 1 / t + 1 / (1 - t)
    found = float(estimates(masked, 0, uniform=True).var() / estimates(masked_apart, 0, uniform=True).var())
    assert wanted == pytest.approx(0.237, abs=5e-4) and found == pytest.approx(wanted, rel=0.3)
