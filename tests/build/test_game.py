"""Pairs of a game: what survived before what fell, and attacks that found a flaw before ones that did not."""

import json
import random

import pytest

from rlpost import built
from rlpost.build.game import critic_pairs, generator_pairs
from rlpost.errors import ConfigError
from rlpost.reward.adversary import question
from rlpost.reward.judge import fence_of
from rlpost.types import Task
from tests.build.rows import said

ASK = Task("size", ({"role": "user", "content": "Write size."},), columns={"entry_point": "size", "reference": "r"})
RNG = random.Random(0)


def columns(tasks):
    return [(task.columns["chosen"], task.columns["rejected"]) for task in tasks]


def test_a_completion_that_survived_is_chosen_before_one_that_fell():
    rows = [
        said(ASK, "a", group="1", survives=1.0), said(ASK, "b", group="1", survives=0.0),
        said(ASK, "c", group="1", survives=None), said(ASK, "d", group="2", survives=0.0),
        said(ASK, "e", group="3", survives=1.0), said(ASK, "e", group="3", survives=0.0),
        said(ASK, "f", group="4", survives=1.0), said(ASK, "g", group="4", survives=0.5),
    ]  # fmt: skip
    assert columns(generator_pairs(rows, RNG)) == [("a", "b"), ("f", "g")]


def test_no_more_pairs_than_asked_for_and_each_once():
    rows = [said(ASK, text, group="1", survives=float(text < "c")) for text in "abcd"]
    every = {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")}
    assert set(columns(generator_pairs(rows, RNG, pairs=9))) == every
    assert len(columns(generator_pairs(rows, RNG, pairs=9))) == 4
    assert len(set(columns(generator_pairs(rows, RNG, pairs=3)))) == 3
    drawn = {columns(generator_pairs(rows, random.Random(seed)))[0] for seed in range(40)}
    assert drawn == every, "chance decides"
    with pytest.raises(ConfigError, match=r"build.pairs=0 makes no pair"):
        generator_pairs(rows, RNG, pairs=0)


def attacked(text, *attacks, **more):
    row = said(ASK, text, **more)
    row.info["attacks"] = json.dumps([{"reply": r, "valid": v, "passed": p} for r, v, p in attacks])
    return row


HIT, PASSED, INVALID = ("[-1]", True, False), ("[1]", True, True), ("none", False, False)


def test_an_attack_that_found_a_flaw_is_chosen_before_one_that_did_not():
    rows = [
        attacked("wrong", HIT, PASSED), attacked("bad", INVALID, HIT), attacked("right", PASSED, INVALID),
        attacked("worse", HIT, HIT), said(ASK, "unattacked"), attacked("odd", HIT, ("[-1]", True, True)),
    ]  # fmt: skip
    first, second = critic_pairs(rows, RNG)
    assert columns([first, second]) == [("[-1]", "[1]"), ("[-1]", "none")]
    assert first.prompt[0]["content"] == question(rows[0], fence_of(rows[0])) != second.prompt[0]["content"]
    assert first.demonstration is None and first.columns["entry_point"] == "size"
    (short,) = critic_pairs(rows[:1], RNG, template="{entry_point}: {program}")
    assert short.prompt[0]["content"] == "size: wrong"
    both = critic_pairs([attacked("wrong", HIT, PASSED, INVALID)], RNG, pairs=5)
    assert set(columns(both)) == {("[-1]", "[1]"), ("[-1]", "none")}


def test_a_pair_of_the_critic_is_read_back_with_its_question():
    (one,) = critic_pairs([attacked("wrong", HIT, PASSED)], RNG)
    again = built._read(json.loads(json.dumps(built._written(one, ASK))), {"size": ASK})
    assert again.prompt == list(one.prompt) and again.columns == one.columns
