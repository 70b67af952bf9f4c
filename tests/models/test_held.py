"""A cache within a number of bytes."""

import copy
import pickle

from rlpost.models.held import Held


def filled(limit: int, *keys: str) -> tuple[Held, list[str]]:
    held, made = Held(limit), []
    for key in keys:
        assert held.get(key, lambda key=key: made.append(key) or key * 10, len) == key * 10
    return held, made


def test_what_is_held_is_not_made_again():
    held, made = filled(30, "a", "b", "a", "c", "b")
    assert made == ["a", "b", "c"] and held.bytes == 30


def test_the_least_recently_used_goes_first():
    """Room for two: a is used again before c comes, so b goes and is made a second time."""
    held, made = filled(20, "a", "b", "a", "c", "a", "b")
    assert made == ["a", "b", "c", "b"] and held.bytes == 20


def test_what_is_too_large_is_given_but_not_held():
    held, made = filled(9, "a", "a")
    assert made == ["a", "a"] and held.bytes == 0


def test_copies_are_empty():
    held, _ = filled(30, "a")
    for twin in (pickle.loads(pickle.dumps(held)), copy.deepcopy(held)):
        assert twin.limit == 30 and twin.bytes == 0 and not twin.values
