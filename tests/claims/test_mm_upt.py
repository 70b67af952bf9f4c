"""mm_upt: the majority's answer as label raises what leads, right or wrong; GRPO needs labels to tell."""

import pytest

from rlpost.reward.majority import majority_vote
from tests.claims.unlabelled import trained


@pytest.mark.parametrize("seed", range(3))
def test_the_majority_is_as_good_as_labels_where_it_is_right(seed):
    ours, labelled = trained("mm_upt", seed, majority_vote), trained("grpo", seed, None)
    assert ours.led > labelled.led - 0.02 > 0.9, (ours, labelled)
    assert labelled.trailed > 0.9 and ours.trailed < 0.6, "where a wrong answer leads, it wins on most prompts"
    assert all(late < early for early, late in zip(ours.entropies, ours.entropies[1:], strict=False)), ours.entropies
