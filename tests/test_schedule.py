import functools
import math

import pytest

from rlpost import schedule
from rlpost.config import build


def test_linear_by_hand():
    # 0.9 -> 0.1 by half of the run: at a quarter of the run half of the way, 0.5; after half flat.
    at = functools.partial(schedule.linear, start=0.9, end=0.1, until=0.5)
    assert at(0, 0.0) == pytest.approx(0.9, rel=1e-9)
    assert at(7, 0.25) == pytest.approx(0.5, rel=1e-9)
    assert at(8, 0.3) == pytest.approx(0.9 - 0.8 * 0.6, rel=1e-9)
    assert at(20, 0.8) == pytest.approx(0.1, rel=1e-9)


def test_cosine_by_hand():
    # a third of the way: cos(pi/3) = 1/2, so end + (start - end) * 3/4 = 0.2 + 0.5 * 0.75.
    assert schedule.cosine(3, 1 / 3, start=0.7, end=0.2) == pytest.approx(0.575, rel=1e-9)
    assert schedule.cosine(9, 1.0, start=0.7, end=0.2) == pytest.approx(0.2, rel=1e-9)
    assert schedule.cosine(1, 0.1, start=0.7, end=0.2) == pytest.approx(
        0.2 + 0.5 * (1 + math.cos(0.1 * math.pi)) / 2, rel=1e-9
    )


def test_until_zero_ends_at_once():
    assert schedule.linear(0, 0.0, start=0.9, end=0.1, until=0.0) == pytest.approx(0.1, rel=1e-9)


def test_steps_change_at_the_named_step():
    at = functools.partial(schedule.steps, values=[0.3, 0.2, 0.05], at=[4, 9])
    assert [at(step, 0.0) for step in (0, 3, 4, 8, 9, 50)] == [0.3, 0.3, 0.2, 0.2, 0.05, 0.05]


@pytest.mark.parametrize(("values", "at"), [([1.0, 2.0], [1, 2]), ([1.0, 2.0, 3.0], [5, 2])])
def test_steps_refuse_what_is_no_staircase(values, at):
    with pytest.raises(ValueError, match="rising steps"):
        schedule.steps(0, 0.0, values=values, at=at)


def test_one_minus_shares_a_schedule():
    mu = {"_target_": "rlpost.schedule.linear", "start": 0.9, "end": 0.1}
    rest = build({"_target_": "rlpost.schedule.one_minus", "of": mu})
    assert rest(2, 0.25) == pytest.approx(1 - 0.7, rel=1e-9)
    assert schedule.value(build(mu), 2, 0.25) + schedule.value(rest, 2, 0.25) == pytest.approx(1.0, rel=1e-9)


def test_bind_replaces_scheduled_knobs_only():
    node = {
        "_target_": "rlpost.objective.clipped.ppo_clip",
        "clip_low": {"_target_": "rlpost.schedule.linear", "start": 0.4, "end": 0.2},
        "clip_high": 0.28,
    }
    bound = schedule.bind(build(node), 5, 0.5)
    assert bound.keywords == {"clip_low": pytest.approx(0.3, rel=1e-9), "clip_high": 0.28}
    plain = build({**node, "clip_low": 0.1})
    assert schedule.bind(plain, 5, 0.5) is plain


def test_exponential_by_hand():
    at = functools.partial(schedule.exponential, start=0.3, decay_steps=500.0)
    assert [at(step, 0.9) for step in (0, 500, 1000)] == pytest.approx([0.3, 0.3 / math.e, 0.3 / math.e**2], rel=1e-9)
    assert schedule.is_schedule(functools.partial(schedule.exponential, start=0.3, decay_steps=1.0))
    with pytest.raises(ValueError, match="decay_steps above 0"):
        schedule.exponential(1, 0.0, start=0.3, decay_steps=0.0)


def test_warmup_cosine_by_hand():
    at = functools.partial(schedule.warmup_cosine, peak=0.9, valley=0.1, warmup=4, decay=12)
    # a quarter of the way up is 0.225; a third of the way down cos(pi/3) = 1/2, so 0.1 + 0.8 * 3/4; flat at step 16.
    assert [at(step, 0.5) for step in (0, 1, 4, 8, 16, 40)] == pytest.approx([0, 0.225, 0.9, 0.7, 0.1, 0.1], rel=1e-9)
    sudden = functools.partial(schedule.warmup_cosine, peak=0.9, valley=0.05, warmup=0, decay=0)
    assert sudden(0, 0.0) == pytest.approx(0.05, rel=1e-9)
    assert schedule.warmup_cosine(0, 0.0, peak=0.9, valley=0.05, warmup=0, decay=200) == pytest.approx(0.9, rel=1e-9)


def test_a_slope_stops_at_its_end():
    down = functools.partial(schedule.slope, start=0.5, per_step=-0.125, end=0.2)
    assert [down(step, 0.9) for step in (0, 1, 2, 3)] == pytest.approx([0.5, 0.375, 0.25, 0.2], rel=1e-9)
    up = functools.partial(schedule.slope, start=0.5, per_step=0.25, end=0.8)
    assert [up(step, 0.0) for step in (0, 1, 2, 9)] == pytest.approx([0.5, 0.75, 0.8, 0.8], rel=1e-9)
    assert schedule.slope(7, 0.0, start=0.5, per_step=0.0, end=0.2) == pytest.approx(0.5, rel=1e-9)
