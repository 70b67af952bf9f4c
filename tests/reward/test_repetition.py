"""Repeated n-grams by hand."""

import pytest

from rlpost.errors import ConfigError
from rlpost.reward.repetition import repetition
from tests.reward.rows import rollout


@pytest.mark.parametrize(
    ("text", "n", "wanted"),
    [
        ("a b c d e", 3, 0.0),
        ("a b c a b c a b c", 3, -(1 - 3 / 7)),  # abc bca cab abc bca cab abc
        ("A b a B a", 2, -(1 - 2 / 4)),  # ab ba ab ba
        ("no no no no", 1, -0.75),
        ("a b", 3, 0.0),
        ("", 3, 0.0),
    ],
)
def test_the_share_that_stood_there_before(text, n, wanted):
    assert repetition([rollout(text)], n=n) == [pytest.approx(wanted, rel=1e-12)]
    assert repetition([rollout(text)], n=n, penalty=-0.2) == [pytest.approx(0.2 * wanted, rel=1e-12)]


@pytest.mark.parametrize("knobs", [{"n": 0}, {"penalty": 0.1}])
def test_settings_that_cannot_work(knobs):
    with pytest.raises(ConfigError, match="reward repetition"):
        repetition([rollout("a")], **knobs)
