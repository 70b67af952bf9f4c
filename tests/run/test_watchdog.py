"""The watchdog: who hangs is named, what is safe is saved, and the process ends with 7, whatever holds it."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlpost.now import Now, now
from rlpost.run import watchdog
from rlpost.run.folder import RunFolder
from rlpost.run.watchdog import Watchdog


def test_the_innermost_late_phase_counts():
    seen = Now()
    with seen.phase("generate"), seen.phase("reward"):
        time.sleep(0.02)
        assert seen.late({}) is None
        assert seen.late({"generate": 60.0, "reward": 60.0}) is None
        assert (seen.late({"generate": 0.01, "reward": 0.01}) or ("", 0))[0] == "reward"
        name, age = seen.late({"generate": 0.01, "reward": 60.0}) or ("", 0.0)
        assert name == "generate" and 0.02 <= age < 10
    assert seen.phases == [] and seen.late({"generate": 0.0}) is None


def test_a_phase_ends_also_with_an_error():
    seen = Now()
    with pytest.raises(KeyError), seen.phase("save"):
        raise KeyError
    assert seen.phases == []


def expire(tmp_path, monkeypatch, rescue=None, limits=None):
    """Let a phase of this process run late; what the watchdog left, and its exit code."""
    left, done = [], threading.Event()
    monkeypatch.setattr(watchdog, "EVERY", 0.02)
    folder = RunFolder(tmp_path)
    folder.rescue = rescue

    def leave(code: int) -> None:
        left.append(code)
        done.set()

    with Watchdog(limits or {"score": 0.05, "sync": None}, folder, rank=0, leave=leave), now.phase("score"):
        done.wait(20)
    return left[:1], tmp_path / "hang"


def test_phase_rank_and_stacks_are_written_and_the_exit_code_is_7(tmp_path, monkeypatch, capsys):
    left, place = expire(tmp_path, monkeypatch, lambda where, phase: [f"saved in {where.name} during {phase}"])
    assert left == [7]
    facts = json.loads((place / "rank0.json").read_text())
    assert facts["phase"] == "score" and facts["rank"] == 0 and facts["limit"] == 0.05 and facts["reward"] is None
    assert facts["saved"] == ["saved in hang during score"]
    assert "test_watchdog.py" in (place / "stacks-rank0.txt").read_text()
    told = capsys.readouterr().err
    assert "phase 'score' of rank 0" in told and "watchdog.score=0.05" in told and "saved in hang" in told
    outcome = json.loads((tmp_path / "done.json").read_text())
    assert outcome["exit_code"] == 7 and outcome["kind"] == "Hang"


def test_a_rescue_that_fails_or_hangs_does_not_keep_the_process(tmp_path, monkeypatch):
    def broken(where: Path, phase: str) -> list[str]:
        raise OSError("read-only")

    left, place = expire(tmp_path / "a", monkeypatch, broken)
    assert left == [7] and "nothing was saved: OSError" in (place / "rank0.json").read_text()
    monkeypatch.setattr(watchdog, "RESCUE", 0.1)
    stuck = threading.Event()
    left, place = expire(tmp_path / "b", monkeypatch, lambda where, phase: [str(stuck.wait(20))])
    stuck.set()
    assert left == [7] and "took longer" in (place / "rank0.json").read_text()


def test_without_limits_nobody_watches(tmp_path):
    before = threading.active_count()
    with Watchdog({"score": None}, RunFolder(tmp_path)), now.phase("score"):
        assert threading.active_count() == before


HANG = """
import re, sys, time
from pathlib import Path
from rlpost.now import now
from rlpost.run import watchdog
from rlpost.run.folder import RunFolder
watchdog.EVERY = 0.1
with watchdog.Watchdog({"reward": 0.5}, RunFolder(sys.argv[1])), now.phase("reward"):
    %s
"""


@pytest.mark.parametrize("hangs", ["time.sleep(100)", "re.match('(a+)+$', 'a' * 60 + 'b')"])
def test_a_sleep_and_a_regular_expression_that_keeps_the_interpreter_both_end(hangs, tmp_path):
    ended = subprocess.run([sys.executable, "-c", HANG % hangs, str(tmp_path)], timeout=60, check=False)
    assert ended.returncode == 7
    assert json.loads((tmp_path / "hang" / "rank0.json").read_text())["phase"] == "reward"
