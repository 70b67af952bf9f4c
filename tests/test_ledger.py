"""Counting what could not be used."""

import json

import pytest

from rlpost.errors import DataError, RewardError
from rlpost.ledger import EXAMPLES, Ledger


def filled(count, cause="too long", kind="drop"):
    ledger = Ledger()
    for i in range(count):
        getattr(ledger, kind)(cause, f"row {i}")
    return ledger


def test_counts_by_kind_and_cause_with_a_few_examples():
    ledger = filled(7)
    ledger.cut("too long", "row 9")
    ledger.fail("timed out", "row 3")
    assert ledger.rows()[0] == {
        "kind": "drop",
        "cause": "too long",
        "count": 7,
        "where": [f"row {i}" for i in range(EXAMPLES)],
    }
    assert [(r["kind"], r["count"]) for r in ledger.rows()] == [("drop", 7), ("cut", 1), ("fail", 1)]
    assert (ledger.count(), ledger.count("drop"), ledger.count("fail")) == (9, 7, 1)
    assert "row 4, ..." in ledger.table() and "timed out (row 3)" in ledger.table()


def test_merge_adds_counts_of_ranks_through_json():
    ledger = filled(2)
    ledger.merge(json.loads(json.dumps(filled(3).as_dict())))
    ledger.merge(filled(1, "empty").as_dict())
    assert [(r["cause"], r["count"]) for r in ledger.rows()] == [("too long", 5), ("empty", 1)]


def test_merge_once_ignores_a_second_reading_of_the_same_source():
    ledger = Ledger()
    for source in ("a", "a", "b"):
        ledger.merge(filled(2).as_dict(), once=source)
    assert ledger.count() == 4


@pytest.mark.parametrize(("dropped", "total", "limit", "fatal"), [
    (1, 3, 0.01, False),  # one row never stops a run
    (2, 3, 0.01, True),
    (2, 200, 0.01, False),  # exactly at the share
    (3, 200, 0.01, True),
    (3, 200, 0.02, False),
])  # fmt: skip
def test_check_stops_past_the_share(dropped, total, limit, fatal):
    ledger = filled(dropped)
    ledger.fail("timed out", "row 1")  # only dropped rows count towards the share
    if not fatal:
        return ledger.check(total, limit)
    with pytest.raises(DataError, match=f"{dropped} of {total} rows of the dataset"):
        ledger.check(total, limit)


def test_since_tells_what_is_new_and_merging_it_catches_up():
    ledger = filled(2)
    before = ledger.copy()
    ledger.drop("too long", "row 8")
    ledger.fail("timed out", "row 3")
    new = ledger.since(before)
    assert {(e["cause"], e["count"], tuple(e["where"])) for e in new["entries"]} == {
        ("too long", 1, ("row 8",)),
        ("timed out", 1, ("row 3",)),
    }
    assert before.count() == 2 and ledger.since(ledger.copy())["entries"] == []
    before.merge(new)
    assert before.rows() == ledger.rows()


@pytest.mark.parametrize(("failed", "rows", "limit", "fatal"), [
    (1, 1, 0.0, False),  # one entry never stops a run
    (2, 4, 0.5, False),
    (3, 4, 0.5, True),
    (3, 4, None, False),
])  # fmt: skip
def test_judge_stops_past_the_share_of_a_kind(failed, rows, limit, fatal):
    ledger = filled(failed, "timed out", "fail")
    limits = {"fail": limit, "drop": 0.0}
    if not fatal:
        return ledger.judge(rows, limits)
    with pytest.raises(RewardError, match=r"3 entries of kind 'fail' on 4 rows .* ledger.fail=0.5"):
        ledger.judge(rows, limits)
    with pytest.raises(DataError, match=r"ledger\.cut=0\.1"):
        filled(2, "long", "cut").judge(4, {"cut": 0.1})


def test_a_place_counts_once_over_epochs_ranks_and_continued_runs():
    one, two = Ledger(), Ledger()
    for ledger in (one, two, one):
        ledger.drop("broken", "row 3", once=True)
        ledger.shrink("a video longer than max_frames=8", "a.mp4", lost=32)
    two.drop("broken", "row 4", once=True)
    before = one.copy()
    one.merge(json.loads(json.dumps(two.as_dict())))
    assert {(r["kind"], r["count"], r.get("lost")) for r in one.rows()} == {("drop", 2, None), ("shrink", 1, 32)}
    one.drop("broken", "row 4", once=True)
    assert one.count("drop") == 2
    new = one.since(before)
    assert [(e["cause"], e["count"]) for e in new["entries"]] == [("broken", 1)] and len(new["once"]) == 1
    again = before.copy()
    again.merge(new)
    assert again.rows() == one.rows()


def test_an_amount_adds_up_and_is_told():
    ledger = Ledger()
    for lost in (5, 7):
        ledger.cut("a result longer than 9 characters", "task 1", lost=lost, unit="characters")
    assert ledger.rows()[0]["lost"] == 12
    assert ledger.table() == "cut         2  a result longer than 9 characters: 12 characters (task 1, ...)"


def test_dropped_rows_are_held_against_what_was_read_and_the_rest_against_what_was_made():
    ledger = filled(3)
    for _ in range(2):
        ledger.look(100, once="data.jsonl")
    ledger.judge(4, {"drop": 0.03})
    with pytest.raises(DataError, match="3 entries of kind 'drop' on 100 rows"):
        ledger.judge(400, {"drop": 0.02})
    failed = filled(3, "timed out", "fail")
    failed.asked = 6
    failed.judge(0, {"fail": 0.5})
    with pytest.raises(RewardError, match="3 entries of kind 'fail' on 6 rows"):
        failed.judge(0, {"fail": 0.4})
