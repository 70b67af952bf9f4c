"""The cache: one file for many processes, bounded, and never a reason to stop."""

import logging
import multiprocessing
import sqlite3

import pytest

from rlpost.models.scorer import cache as module
from rlpost.models.scorer.base import Meter, packed, percentile, unpacked
from rlpost.models.scorer.cache import Cache, key_of


def test_keys_follow_the_content():
    one = key_of("m", "judge", {"a": 1, "b": 2}, "text")
    assert one == key_of("m", "judge", {"b": 2, "a": 1}, "text") and len(one) == 64
    others = [("n", "judge", {"a": 1, "b": 2}, "text"), ("m", "logp", {"a": 1, "b": 2}, "text")]
    others += [("m", "judge", {"a": 1, "b": 3}, "text"), ("m", "judge", {"a": 1, "b": 2}, "texts")]
    others += [("m", "judge", {"a": 1, "b": 2}, ["text"]), ("m", "judge", {"a": 1.0, "b": 2}, "text")]
    assert len({one, *(key_of(*parts) for parts in others)}) == 7
    assert key_of("lone \ud800") != key_of("lone \ud801")


def test_values_come_back_as_they_were(tmp_path):
    values = {"a": "text \ud800 \x00 é", "b": [0.1, -1e-300, 12345678901], "c": {"x": [[]]}, "d": ""}
    Cache(tmp_path, max_mb=1).put(values)
    cache = Cache(tmp_path, max_mb=1)
    assert cache.get(["a", "b", "c", "d", "e"]) == values and cache.errors == 0
    many = {f"k{i}": i for i in range(1201)}  # more than one statement's worth
    cache.put(many)
    assert cache.get([*many]) == many and cache.get([]) == {}


def test_the_least_recently_used_leave_first(tmp_path, monkeypatch):
    """Each entry is 1 + 102 bytes; the limit of 1000 holds nine. The tenth makes room for 900: a goes, b was used."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    cache = Cache(tmp_path, max_mb=0.001)
    for name in "bacdefghi":
        now[0] += 1
        cache.put({name: "x" * 100})
    assert cache.size() == 9 * 103
    now[0] += 2 * module.FRESH_S
    assert cache.get(["b"])
    cache.put({"j": "x" * 100})
    assert sorted(cache.get([*"abcdefghij"])) == [*"bdefghij"] and cache.size() == 8 * 103
    cache.put({"large": "x" * 2000})
    assert cache.get(["large"]) == {} and cache.size() == 8 * 103
    with sqlite3.connect(cache.path) as db:
        assert db.execute("SELECT sum(size) FROM results").fetchone()[0] == cache.size()


def _fill(folder, start):
    cache = Cache(folder, max_mb=10)
    for i in range(start, start + 40):
        cache.put({f"k{i % 60}": [i % 60] * 10})
        assert cache.get([f"k{i % 60}"]) == {f"k{i % 60}": [i % 60] * 10}
    return cache.errors


def test_several_processes_share_it(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(_fill, [(tmp_path, 20 * i) for i in range(4)]) == [0] * 4
    cache = Cache(tmp_path, max_mb=10)
    assert cache.get([f"k{i}" for i in range(60)]) == {f"k{i}": [i] * 10 for i in range(60)}
    with sqlite3.connect(cache.path) as db:
        assert db.execute("SELECT sum(size) FROM results").fetchone()[0] == cache.size()


@pytest.mark.parametrize("damage", ["no database", "a folder is a file", "locked"])
def test_a_cache_that_fails_is_said_once_and_does_not_stop(tmp_path, damage, caplog, monkeypatch):
    monkeypatch.setattr(module, "BUSY_S", 0.05)
    cache = Cache(tmp_path / "place", max_mb=1)
    holder = None
    if damage == "a folder is a file":
        (tmp_path / "place").write_text("")
    else:
        cache.put({"a": 1})
    if damage == "no database":
        cache.path.write_bytes(b"junk" * 4000)
    if damage == "locked":
        holder = sqlite3.connect(cache.path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
    with caplog.at_level(logging.WARNING):
        assert cache.get(["a"]) == {}
        cache.put({"b": 2})
        assert cache.size() == 0
    assert cache.errors == 3 and len(caplog.records) == 1 and "going on without it" in caplog.text
    if holder:
        holder.close()
        assert cache.get(["a", "b"]) == {"a": 1}


def test_vectors_and_percentiles():
    import torch

    vectors = torch.randn(3, 5)
    assert torch.equal(unpacked(packed(vectors)), vectors)
    assert [percentile([4, 1, 3, 2], share) for share in (0.5, 0.75, 0.99)] == [2, 3, 4]
    assert percentile(list(range(1, 201)), 0.99) == 198
    meter = Meter()
    with pytest.raises(KeyError), meter.timed("a"):
        raise KeyError
    assert set(meter.report()) == {"a/p50_s", "a/p99_s"}
