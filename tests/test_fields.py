"""Signatures declare what is read: functions, partials, objects, and what they are called with."""

import functools
from types import SimpleNamespace

import pytest

from rlpost.fields import call, needed, reads


def plain(logp, mask, *, knob: float = 2.0):
    return ("plain", logp, mask, knob)


class Running:
    """A baseline with state: its knobs are on `__init__`."""

    def __init__(self, *, decay: float = 0.9):
        self.decay = decay

    def __call__(self, rewards, group):
        return ("running", rewards, group, self.decay)

    def method(self, length):
        return ("method", length)


def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **knobs):
        return function(*args, **knobs)

    return inner


@pytest.mark.parametrize(
    ("plugin", "names"),
    [
        (plain, ("logp", "mask")),
        (functools.partial(plain, knob=3.0), ("logp", "mask")),
        (wrapped(plain), ("logp", "mask")),
        (functools.partial(wrapped(plain), knob=1.0), ("logp", "mask")),
        (Running(), ("rewards", "group")),
        (Running().method, ("length",)),
        (lambda tokens, /, turn: None, ("tokens", "turn")),
        (lambda: None, ()),
        (lambda *, knob=1: None, ()),
    ],
)
def test_positional_parameters_are_the_fields_read(plugin, names):
    assert reads(plugin) == names


def test_needed_is_the_union():
    assert needed([plain, Running(), functools.partial(plain, knob=0.0)]) == {"logp", "mask", "rewards", "group"}
    assert needed([]) == set()


def test_extra_comes_before_the_record():
    record = SimpleNamespace(logp=1, mask=2, group=3, rewards=4)
    assert call(plain, record, {}) == ("plain", 1, 2, 2.0)
    assert call(functools.partial(plain, knob=5.0), record, {"mask": 7}) == ("plain", 1, 7, 5.0)
    assert call(Running(decay=0.5), record, {"rewards": 8}) == ("running", 8, 3, 0.5)


def test_a_field_that_nothing_computed_is_named():
    record = SimpleNamespace(logp=1, mask=None)
    with pytest.raises(ValueError, match="plain reads 'mask', which this step did not compute"):
        call(functools.partial(plain, knob=1.0), record, {})
    with pytest.raises(AttributeError, match="Running reads 'rewards', which is not a field of SimpleNamespace"):
        call(Running(), record, {})
    assert call(plain, record, {"mask": 0}) == ("plain", 1, 0, 2.0)
