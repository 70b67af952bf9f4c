"""asft: as good a fit as DFT, closer to the base model."""

import pytest

from rlpost.sft_loss.token import asft, dft
from tests.claims.small import noisy_labels


@pytest.mark.parametrize("seed", range(5))
def test_closer_to_the_base_at_nearly_the_same_fit(seed):
    distance, fit, _ = noisy_labels(asft, seed)
    far, best, _ = noisy_labels(lambda logp, _: dft(logp), seed)
    assert distance < 0.85 * far and fit > 0.95 * best
