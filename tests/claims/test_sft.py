"""sft: the demonstrations become likely, odd labels included."""

import pytest

from rlpost.sft_loss.token import nll
from tests.claims.small import noisy_labels


@pytest.mark.parametrize("seed", range(5))
def test_every_label_is_learnt(seed):
    _, good, odd = noisy_labels(lambda logp, _: nll(logp), seed)
    assert good > 0.95 and odd > 0.95
