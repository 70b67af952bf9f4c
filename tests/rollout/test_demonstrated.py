"""Demonstrations in a rollout: instead of a failed group, as a beginning, as a place to reset to."""

import math

import pytest

from rlpost.errors import ConfigError
from rlpost.rollout.demonstrated import dr_po, hpt, prefix_rft
from rlpost.stack import Reward, RewardStack
from tests.rollout.scripted import by_role, contains, context, ids, task

HARD, EASY, BARE = task("hard", "7", "six is 7"), task("easy", "8", "8"), task("bare", "9")


def half(prompt: str, k: int) -> str:
    """Right on `easy` in the first two completions of a prompt, nowhere else."""
    return "8" if "easy" in prompt and k < 2 else "5"


@pytest.mark.parametrize(("gate", "replaced"), [(-1, set()), (0, {"hard"}), (1, {"hard"}), (2, {"hard", "easy"})])
def test_a_failed_group_is_taught_by_its_demonstration(gate, replaced):
    """Of 4 completions 0 are right on hard, 2 on easy, 0 on bare, which has no demonstration."""
    rows = hpt([HARD, EASY, BARE], context(half), gate=gate)
    assert len(by_role(rows, "policy")) == 12
    experts = by_role(rows, "expert")
    assert {r.task.id for r in experts} == replaced and len(experts) == len(replaced)
    for row in by_role(rows, "policy"):
        assert all(t != (row.task.id in replaced) for t in row.trains)
    for row in experts:
        assert row.group == next(r.group for r in rows if r.task.id == row.task.id)
        assert row.text == row.task.demonstration and row.scores == {"right": None}


def test_off_policy_the_demonstration_is_a_completion_with_reward_one():
    rows = hpt([HARD, EASY, BARE], context(half), mode="off_policy")
    (shown,) = by_role(rows, "expert")
    assert shown.task is HARD and shown.scores == {"right": 1.0} and shown.group == rows[0].group
    assert all(all(row.trains) for row in by_role(rows, "policy"))
    ctx = context(half)
    ctx.stack = RewardStack({"right": Reward(contains), "other": Reward(contains)})
    with pytest.raises(ConfigError, match=r"name it in rollout\.reward, one of right, other"):
        hpt([HARD], ctx, mode="off_policy")
    (shown,) = by_role(hpt([HARD], ctx, mode="off_policy", reward="other"), "expert")
    assert shown.scores == {"right": None, "other": 1.0}


def test_softly_it_joins_every_group_and_everything_trains():
    rows = hpt([HARD, EASY, BARE], context(half), mode="soft")
    assert {row.task.id for row in by_role(rows, "expert")} == {"hard", "easy"}
    assert all(all(row.trains) for row in rows)
    assert all(row.scores == {"right": None} for row in by_role(rows, "expert"))


def test_a_group_that_nothing_judges_is_left_to_reinforcement():
    rows = hpt([task("unjudged", None, "7")], context(half))
    assert len(rows) == 4 and all(all(r.trains) for r in rows)


def test_the_last_completion_continues_the_demonstration():
    rows = prefix_rft([HARD, BARE], context(half, n=3), high=0.5, low_min=0.5)
    assert [r.task.id for r in rows] == ["hard"] * 2 + ["bare"] * 2 + ["hard", "bare"]
    hybrid, plain = rows[4:]
    # floor(0.5 * 8) = 4 characters of "six is 7"
    assert hybrid.text == "six 5" and (hybrid.role, hybrid.fork) == ("hybrid", 4)
    assert hybrid.source == ["expert"] * 4 + ["policy"] * 2 and all(hybrid.trains)
    assert (plain.role, plain.fork, plain.text) == ("policy", 0, "5")
    assert {r.group for r in rows if r.task is HARD} == {rows[0].group} != {plain.group}


@pytest.mark.parametrize(("progress", "low"), [(0.0, 0.8), (0.5, 0.4), (1.0, 0.0)])
def test_the_beginnings_get_shorter(progress, low):
    """low = 0.8 * (1 + cos(pi s)) / 2; a demonstration of 100 tokens, lengths in [100 low, 80]."""
    long = task("long", "7", "x" * 100)
    rows = prefix_rft([long] * 300, context(half, n=2, progress=progress), high=0.8)
    lengths = [r.fork for r in rows[300:]]
    assert min(lengths) >= math.floor(100 * low - 1e-9) and max(lengths) <= 80
    if progress:
        assert min(lengths) < 100 * low + 3 and max(lengths) > 76


def test_at_least_one_token_is_written():
    (_, hybrid) = prefix_rft([task("a", "7", "123")], context(half, n=2), high=1.0, low_min=1.0)
    assert hybrid.fork == 2 and hybrid.text == "125"
    rows = prefix_rft([task("a", "7", "1")], context(half, n=2), high=1.0, low_min=1.0)
    assert [r.role for r in rows] == ["policy"] * 2


@pytest.mark.parametrize("knobs", [{"high": 1.2}, {"low_min": 0.6, "high": 0.5}])
def test_impossible_shares_are_refused(knobs):
    with pytest.raises(ConfigError, match="low_min"):
        prefix_rft([HARD], context(half), **knobs)
    with pytest.raises(ConfigError, match="num_generations=1"):
        prefix_rft([HARD], context(half, n=1))


def test_a_group_shares_the_place_it_is_reset_to():
    rows = dr_po([HARD] * 20, context(half, n=3))
    places = [{r.fork for r in rows[3 * i : 3 * i + 3]} for i in range(20)]
    assert all(len(place) == 1 for place in places) and set.union(*places) == set(range(1, 8))
    for row in rows:
        assert row.role == "reset" and row.tokens[: row.fork] == ids("six is 7")[: row.fork]
        assert row.trains == [False] * row.fork + [True] * 2 and row.source[0] == "expert"


def test_no_place_to_reset_to():
    rows = dr_po([EASY, BARE], context(half)) + dr_po([HARD], context(half), share=0.0)
    assert all(r.role == "policy" and r.fork == 0 and all(r.trains) for r in rows)
    mixed = dr_po([HARD] * 200, context(half, n=1), share=0.25)
    assert 30 < len(by_role(mixed, "reset")) < 70  # 50 expected, standard deviation 6
    with pytest.raises(ConfigError, match="share=2"):
        dr_po([HARD], context(half), share=2)
