"""rpo: DPO lowers the likelihood of the chosen answers, a likelihood term keeps it. about.rpo has the numbers."""

import functools

from rlpost.preference.direct import dpo, rpo, rpo_average
from tests.claims.small import shared_features

SEEDS = range(6)


def test_a_likelihood_term_keeps_the_chosen_answers_while_the_margin_grows():
    fallen = [shared_features(dpo, seed)[0] for seed in SEEDS]
    assert sum(f < 0 for f in fallen) >= 5 and sum(fallen) / 6 < -5, fallen
    for loss in (rpo_average, functools.partial(rpo, beta=0.1, eta=1.0)):
        kept = [shared_features(loss, seed) for seed in SEEDS]
        assert all(rise > 0 and margin > 0 for rise, margin in kept), kept


def test_the_papers_eta_only_slows_the_fall():
    """eta 0.005 is too weak here: the chosen answers lose a little less than under DPO, but they lose."""
    plain = [shared_features(functools.partial(dpo, beta=0.1), seed)[0] for seed in SEEDS]
    weak = [shared_features(functools.partial(rpo, beta=0.1), seed)[0] for seed in SEEDS]
    assert all(w > p for w, p in zip(weak, plain, strict=True)), (weak, plain)
    assert sum(w < 0 for w in weak) >= 5
