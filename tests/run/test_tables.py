"""Intervals and tables."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from rlpost.run import tables


def shown(drawn) -> str:
    stream = io.StringIO()
    Console(file=stream, width=110).print(drawn)
    return stream.getvalue()


def test_interval_of_a_proportion_is_near_the_normal_one():
    values = [1.0] * 280 + [0.0] * 120
    found = tables.interval(values)
    width = 1.96 * math.sqrt(0.7 * 0.3 / 400)  # 0.0449; one tail of 5% would be 0.0377
    assert found.mean == pytest.approx(0.7)
    assert found.n == 400
    assert found.low == pytest.approx(0.7 - width, abs=0.004)
    assert found.high == pytest.approx(0.7 + width, abs=0.004)
    assert tables.interval(values) == found
    narrower = tables.interval(values, level=0.5)
    assert found.low < narrower.low < narrower.high < found.high


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        found = tables.interval(list(rng.normal(2.0, 3.0, size=60)), n=500, seed=trial)
        hits += found.low <= 2.0 <= found.high
    assert 178 <= hits <= 199


def test_interval_leaves_out_what_does_not_apply():
    found = tables.interval([None, 1.0, math.nan, 0.0, 1.0])
    assert (found.mean, found.n) == (pytest.approx(2 / 3), 3)
    empty = tables.interval([])
    assert math.isnan(empty.mean)
    assert empty.n == 0
    assert tables.interval([1.0, 1.0, 1.0])[:3] == (1.0, 1.0, 1.0)


def test_paired_differences_cancel_the_difficulty_of_tasks():
    before = [0.1 * index for index in range(10)]
    after = [value + 0.05 for value in before]
    found = tables.paired(before, after)
    assert found.mean == pytest.approx(0.05)
    assert found.high - found.low < 1e-9
    assert tables.paired([0.0, None, 1.0], [1.0, 1.0, 1.0]).n == 2
    with pytest.raises(ValueError, match="2 before, 1 after"):
        tables.paired([0.0, 1.0], [1.0])


def test_large_samples_are_cut_into_chunks_without_changing_their_number():
    assert tables.interval([0.0, 1.0] * 2000, n=1001).mean == 0.5


def test_number():
    assert tables.number(0.12345) == "0.123"
    assert tables.number(1e-5) == "1e-05"
    assert tables.number(None) == "–"
    assert tables.number(math.nan) == "–"
    assert tables.number((0.5, 0.25, 0.75, 40)) == "0.500 [0.250, 0.750]"
    assert tables.number({"mean": 0.5, "low": 0.25, "high": 0.75}) == "0.500 [0.250, 0.750]"
    assert tables.number(12) == "12"


def test_the_final_table_shows_what_was_measured_and_nothing_else():
    result = {
        "held_out": {"metric": "pass@1", "before": [0.1, 0.05, 0.16, 100], "after": [0.52, 0.42, 0.61, 100]},
        "reward": {"start": 0.11, "end": 0.7},
        "minutes": 6.44,
    }
    text = shown(tables.final("GRPO", result, "runs/a", "runs/a/report.html"))
    for part in ("pass@1 before, 95% interval", "0.100 [0.050, 0.160]", "0.520 [0.420, 0.610]", "reward at the start",
                 "0.700", "6.4", "runs/a/report.html"):  # fmt: skip
        assert part in text, part
    assert "loss" not in text
    assert len(tables.final_rows({}, "runs/a")) == 1


def test_numbers_are_not_broken_over_lines():
    wide = [[f"row {index}", "words " * 30, [0.5, 0.4, 0.6]] for index in range(2)]
    assert shown(tables.table("t", ["name", "long", "accuracy"], wide)).count("0.500 [0.400, 0.600]") == 2


def test_a_table_keeps_brackets_and_aligns_numbers():
    text = shown(tables.table("Arms", ["arm", "accuracy"], [["[bold]x", 0.5], ["y", [0.5, 0.4, 0.6]]]))
    assert "[bold]x" in text
    assert "0.500 [0.400, 0.600]" in text


def test_brackets_need_no_markup():
    drawn = tables.table("t", ["a"], [["0.1 [0.0, 0.2]"], ["[bold]x"]])
    console = Console(record=True, width=80, file=io.StringIO())
    console.print(drawn, markup=False)
    assert "\\" not in (text := console.export_text()) and "[bold]x" in text
