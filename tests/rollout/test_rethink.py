"""A second thought: when it is asked for, where it begins, what is kept of it, and what of it trains."""

import pytest

from rlpost.errors import ConfigError
from rlpost.rollout.engine import Sampling
from rlpost.rollout.rethink import MARKS, before_marks, rethink
from tests.rollout.scripted import ENCODER, context, ids, task

TASK = task("what?", "7")
ALWAYS = {"chance": 1.0, "cut_share": 0.0, "plain_share": 0.0, "least": 0, "room": 20}


def said(prompt: str, k: int) -> str:
    """Right at the second try only; after a mistake is suspected right, after a double check too."""
    return " so 7" if "Wait" in prompt else ("4", "7", "5", "6")[k]


def thought(say=said, n=4, limit=60, seed=0, tasks=(TASK,), **knobs):
    ctx = context(say, n=n, seed=seed)
    ctx.sampling = Sampling(limit)
    return rethink(list(tasks), ctx, **{**ALWAYS, **knobs}), ctx


def test_at_most_two_right_ones_take_the_place_of_what_they_were():
    rows, ctx = thought(kept=2)
    assert [r.role for r in rows] == ["rethought", "rethought", "policy", "policy"]
    assert rows[0].text == "4\n\nWait, there might be a mistake so 7" and rows[0].info["before"] == "4"
    assert rows[1].text == "7\n\nWait, let's double check so 7" and rows[1].group == rows[3].group
    assert [r.scores["right"] for r in rows] == [1.0, 1.0, 0.0, 0.0]
    trigger = len(ids("\n\nWait, there might be a mistake"))
    assert rows[0].fork == 1 and all(rows[0].trains), "the trigger trains"
    assert rows[0].source == ["policy"] + ["environment"] * trigger + ["policy"] * len([*ids(" so 7"), 0])
    assert rows[0].gen_logp[: 1 + trigger] == [-0.5] + [0.0] * trigger
    assert ctx.engine.limits == [60, 20] and ctx.sampling.temperature == 1.0


def test_the_second_thought_is_drawn_warmer_and_only_after_an_end_with_room():
    seen = []
    ctx = context(said)
    engine, ctx.sampling = ctx.engine, Sampling(60)
    ctx.engine = lambda prompts, n, how: seen.append(how) or engine(prompts, n, how)
    rethink([TASK], ctx, **ALWAYS, rethink_temperature=0.7)
    assert [(how.temperature, how.max_tokens) for how in seen] == [(1.0, 60), (0.7, 20)]
    assert [r.role for r in thought(limit=21)[0]] == ["policy"] * 4, "2 tokens and 20 of room are more than 21"
    cut = context(said)
    cut.sampling, plain = Sampling(60), cut.engine
    cut.engine = lambda prompts, n, how: [one._replace(stop="length") for one in plain(prompts, n, how)]
    assert [r.role for r in rethink([TASK], cut, **ALWAYS)] == ["policy"] * 4
    assert [r.role for r in thought(chance=0.0)[0]] == ["policy"] * 4


@pytest.mark.parametrize(
    "knobs",
    [{"least": 6}, {"room": 6}, {"most_words": 0}, {"threshold": 2.0}, {"kept": 0}],
)
def test_what_does_not_qualify_leaves_the_row_alone(knobs):
    """What is new has 6 tokens with its stop, says one waiting word, and scores 1."""
    assert [r.role for r in thought(**knobs)[0]] == ["policy"] * 4
    near = {"least": 5, "room": 7, "most_words": 1, "threshold": 1.0, "kept": 1}
    assert "rethought" in [r.role for r in thought(**{name: near[name] for name in knobs})[0]]


def test_wrong_second_thoughts_are_not_kept():
    rows, _ = thought(lambda prompt, k: " or 8" if "mistake" in prompt else said(prompt, k))
    assert [r.role for r in rows] == ["policy", "rethought", "policy", "policy"]


def test_shares_are_shares():
    rows, _ = thought(n=4, tasks=[task(f"t{i}", "7") for i in range(100)], chance=0.65, plain_share=0.5, kept=4)
    again = [r for r in rows if r.role == "rethought"]
    assert 0.55 < len(again) / 400 < 0.75
    plain = [r for r in again if "right?" in r.text or "Wait so" in r.text]
    assert 0.4 < len(plain) / len(again) < 0.6
    assert 0.3 < sum("right?" in r.text for r in plain) / len(plain) < 0.7


def test_a_cut_is_before_the_last_of_each_mark():
    ctx = context(said)

    def left(text):
        return ENCODER.decode(ids(text)[: before_marks(ids(text), MARKS, ctx)])

    assert left("One Wait two wait three") == "One Wait two "
    assert left("a \\boxed{1} b \\boxed{2}") == "a \\boxed{1} b "
    assert left("first\n\nsecond\n\nThe Answer is \\boxed{7}") == "first\n\nsecond"
    assert left("none at all") == "none at all" and left("answer") == ""
    rows, _ = thought(lambda prompt, k: " so 7" if "Wait" in prompt else "x answer 7", cut_share=1.0, n=2)
    assert rows[0].text == "x \n\nWait, let's double check so 7" and rows[0].fork == 2


def test_knobs_that_leave_nothing_to_think():
    with pytest.raises(ConfigError, match="room=0 and 2 plain"):
        thought(room=0)
    with pytest.raises(ConfigError, match="and 0 plain triggers"):
        thought(plain=())
