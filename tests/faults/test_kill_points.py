"""A few of the kill points of scripts/kill_points.py, which docs/reliability.md has the figures of."""

import random

from scripts.kill_points import GONE, campaign, points, stretches


def test_killed_runs_are_continued_to_the_same_end(tmp_path):
    (tally,) = campaign(["replay buffer, curriculum"], 5, 3, tmp_path).values()
    assert tally.fell.total() + tally.missed == 5 and tally.fell.total() >= 3
    assert tally.faults == []


def test_a_run_is_cut_at_its_events():
    events = [
        ("+", "generate", 2.0),
        ("+", "reward", 5.0),
        ("-", "reward", 6.0),
        ("-", "generate", 6.5),
        ("+", "save", 7.5),
    ]
    cut = stretches(events, 1.0, 9.5)
    assert cut == [
        ("start", 1.0), ("generate", 3.0), ("reward", 1.0), ("generate", 0.5), ("between phases", 1.0), ("save", 2.0)
    ]  # fmt: skip
    made = points(cut, 500, random.Random(0))
    assert {point.phase for point in made} == {"start", "generate", "reward", "between phases", "save"}
    assert all(point.phase == cut[point.after][0] and 0 <= point.delay <= cut[point.after][1] for point in made)
    assert {point.after for point in made if point.phase == "generate"} == {1, 3}
    assert GONE == -9
