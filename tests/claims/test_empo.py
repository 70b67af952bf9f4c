"""empo: without labels the entropy of answers falls, and what led becomes sure, right or wrong; GRPO needs labels."""

import pytest

from rlpost.reward.agreement import cluster_probability
from tests.claims.unlabelled import trained


@pytest.mark.parametrize("seed", range(3))
def test_agreement_is_as_good_as_labels_where_the_right_answer_leads(seed):
    ours, labelled = trained("empo", seed, cluster_probability), trained("grpo", seed, None)
    assert ours.led > labelled.led - 0.02 > 0.9, (ours, labelled)
    assert labelled.trailed > 0.9 and ours.trailed < 0.6, "where a wrong answer leads, it wins on most prompts"
    assert all(late < early for early, late in zip(ours.entropies, ours.entropies[1:], strict=False)), ours.entropies
