"""A stack is asked as in training: call sizes, causes of missing scores, schedules, spans, latency."""

import math

import pytest

from rlpost import assemble
from rlpost.plan.skeleton import skeleton
from rlpost.rollout.engine import Sampling
from rlpost.stack import Reward, RewardStack
from rlpost.types import Task
from rlpost.workbench import scoring, texts
from rlpost.workbench.texts import Batch, Marker, Text
from tests.workbench import rewards

ENCODER = skeleton({"_target_": "rlpost.models.tiny.text"}).encoder
PLAIN = {"_target_": "rlpost.rollout.sample.sample"}
STEPS = {"_target_": "rlpost.rollout.steps.steps", "end": r"\n\n+"}
TASK = Task("t", ({"role": "user", "content": "2 + 2 is?"},), answer=4, columns={"kind": "sum"})
OTHER = Task("u", ({"role": "user", "content": "2 + 3 is?"},), answer=5, columns={"kind": "other"})


def marker(node=PLAIN):
    return Marker(node, ENCODER, Sampling(max_tokens=64))


def stack(**found):
    return RewardStack({name: Reward(score) for name, score in found.items()})


def batch(*said, task=TASK, step=0, progress=0.0):
    return Batch([Text(task, f"{task.id}{step}", text) for text in said], step, progress)


def test_a_reward_of_single_completions_is_called_for_each_and_another_once_per_batch():
    rewards.CALLS.clear()
    found = scoring.score(stack(a=rewards.alone), [batch("4", "", "x")], marker())
    assert rewards.CALLS == [1, 1, 1] and found.asked["a"].sizes == [1, 1, 1]
    assert found.table[:, 0].tolist() == [1.0, 0.0, 1.0]
    rewards.CALLS.clear()
    found = scoring.score(stack(f=rewards.faulty), [batch("4", "5"), batch("6", step=1)], marker())
    assert rewards.CALLS == [2, 1] and found.asked["f"].sizes == [2, 1]


def test_what_has_no_score_is_counted_by_its_cause():
    """The empty text fails its group of two, NaN its group of one; the box gives None; the third group is scored."""
    groups = [Text(TASK, "g", ""), Text(TASK, "g", "4"), Text(TASK, "h", "4\n4"), Text(TASK, "k", "\\boxed{}")]
    found = scoring.score(stack(f=rewards.faulty), [Batch([*groups, Text(TASK, "k", "4")])], marker())
    asked = found.asked["f"]
    assert asked.missing == {"raised KeyError: 'no text'": 2, "returned nan": 1, scoring.SILENT: 1}
    assert asked.errors == {"raised KeyError: 'no text'", "returned nan"}
    assert "completion ''" in asked.places["raised KeyError: 'no text'"]
    assert [math.isnan(value) for value in found.total] == [True, True, True, True, False]
    routed = RewardStack({"a": Reward(rewards.alone, when={"kind": "sum"})})
    found = scoring.score(routed, [batch("4"), batch("5", "6", task=OTHER)], marker())
    assert found.asked["a"].missing == {scoring.ROUTED: 2} and found.asked["a"].sizes == [1]


def test_the_total_is_weighted_with_the_weights_of_its_step():
    half = {"_target_": "rlpost.schedule.linear", "start": 0.0, "end": 2.0}
    tree = {
        "reward": {
            "correct": {"_target_": "rlpost.reward.correct.correct", "weight": 3.0},
            "mine": {"_target_": f"{rewards.__name__}.alone", "weight": half},
        }
    }
    own = assemble.reward_stack(tree)
    found = scoring.score(own, [batch("4", "5"), batch("4", "", step=1, progress=0.5)], marker())
    # 3 for being right, and for a text 0 at the start and 1 half-way
    assert found.total.tolist() == pytest.approx([3.0, 0.0, 4.0, 0.0])


def test_a_reward_that_another_stack_was_asked_for_is_not_asked_again():
    first = scoring.score(stack(a=rewards.alone), [batch("4", "")], marker())
    rewards.CALLS.clear()
    second = scoring.score(stack(a=rewards.alone), [batch("4", "")], marker(), known={"a": first})
    assert rewards.CALLS == [] and second.table.tolist() == first.table.tolist() and second.taken == {"a"}
    right, form = {"_target_": "rlpost.reward.correct.correct"}, {"_target_": "rlpost.reward.format.matches"}
    trees = [
        {"reward": {"right": right, "form": form}},
        {"reward": {"right": right, "form": {**form, "weight": 3.0}}},
        {"reward": {"right": {**right, "extract": "marked"}, "form": form}},
    ]
    stacks = [assemble.reward_stack(tree) for tree in trees]
    assert scoring.shared(stacks[0], stacks[1], (trees[0], trees[1])) == {"right", "form"}
    assert scoring.shared(stacks[0], stacks[2], (trees[0], trees[2])) == {"form"}


def test_latency_is_of_the_calls_behind_the_first():
    """Calls of 1, 2 and 1 rows after one that loads: quantiles of (0.1, 0.3, 0.2), 0.6 s over 4 rows."""
    one = scoring.Asked(seconds=[9.0, 0.1, 0.3, 0.2], sizes=[5, 1, 2, 1]).latency()
    assert (one["calls"], one["first"], one["total"]) == (4, 9.0, pytest.approx(9.6))
    assert one["p50"] == pytest.approx(0.2) and one["p99"] == pytest.approx(0.2 + 0.98 * 0.1)
    assert one["per_completion"] == pytest.approx(0.15) and one["per_call"] == pytest.approx(9 / 4)
    assert scoring.Asked(seconds=[2.0], sizes=[4]).latency()["p99"] == 2.0
    assert scoring.Asked().latency()["calls"] is None


def test_spans_are_marked_as_the_rollout_marks_them():
    own = marker(STEPS)
    rows = own.rows(batch("one\n\ntwo", "three").texts)
    assert [max(row.span) + 1 for row in rows] == [2, 1] and not own.failed
    assert "".join(rows[0].info["spans"]) == "one\n\ntwo"
    assert max(marker().rows(batch("one\n\ntwo").texts)[0].span) == -1


def test_a_rollout_that_asks_twice_cannot_mark_texts():
    from dataclasses import replace

    from rlpost.types import Media

    film = replace(TASK, media=(Media("video", path="no.mp4"),))
    own = marker({"_target_": "rlpost.rollout.contrast.contrast", "change": "shuffle", "share": 0.5})
    rows = own.rows(batch("4", "5", task=film).texts)
    assert own.failed and [row.text for row in rows] == ["4", "5"]


def test_batches_hold_whole_groups():
    said = [Text(TASK, group, "x") for group in "aabbbc"]
    assert [[text.group for text in one.texts] for one in texts.dealt(said, 2)] == [list("aabbb"), ["c"]]
