"""A run folder that cannot be written, is no folder, or belongs to another run."""

import os
import signal
import subprocess
import sys

import pytest

from rlpost.config import Config
from rlpost.errors import ConfigError, RlpostError
from rlpost.run import lock
from rlpost.run.folder import RunFolder
from tests.faults.disk import read_only, small_disk


def cfg(path):
    return Config("sft", {"run": {"dir": str(path)}, "seed": 0}, {}, {}, [])


def test_a_read_only_folder_is_a_sentence(tmp_path):
    with small_disk(tmp_path / "disk", 2) as disk:
        RunFolder.create(cfg(disk / "old")).release()
        (disk / "empty").mkdir()
        read_only(disk)
        with pytest.raises(ConfigError, match=r"new cannot be made \(Read-only file system\): choose another run.dir"):
            RunFolder.create(cfg(disk / "new"))
        for work in (lambda: RunFolder.create(cfg(disk / "empty")), lambda: RunFolder.open(disk / "old", cfg(None))):
            with pytest.raises(RlpostError, match=r"run\.lock could not be written \(Read-only file system\)"):
                work()
        assert RunFolder.open(disk / "old").metrics() == [], "it can still be read"


def test_a_file_and_a_name_that_no_folder_can_have_are_sentences(tmp_path):
    (tmp_path / "file").write_text("x")
    for place, words in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "below", "cannot be made")):
        with pytest.raises(ConfigError, match=words):
            RunFolder.create(cfg(place))
    with pytest.raises(ConfigError, match=r"cannot be made \(File name too long\)"):
        RunFolder.create(cfg(tmp_path / ("x" * 400)))


HOLD = """
import sys, time
from rlpost.config import Config
from rlpost.run.folder import RunFolder
folder = RunFolder.create(Config("sft", {"run": {"dir": sys.argv[1]}}, {}, {}, []))
print("holding", flush=True)
time.sleep(600)
"""


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path):
    """The first is a process of its own that imports no torch; killed, it leaves its lock file behind."""
    place = tmp_path / "run"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "holding\n"
        who = rf"written by process {first.pid} on \S+ since .*resume={place}"
        with pytest.raises(ConfigError, match=who):
            RunFolder.open(place, cfg(None))
        with pytest.raises(ConfigError, match=who):
            RunFolder.create(cfg(place))
        assert RunFolder.open(place).outcome() is None, "reading is nobody's business"
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        first.stdout.close()
    assert (place / lock.NAME).is_file()
    taken = RunFolder.open(place, cfg(None))
    assert str(os.getpid()) in (place / lock.NAME).read_text()
    taken.release()
    assert not (place / lock.NAME).exists()
    taken.release()  # twice is once


def test_a_lock_file_that_is_removed_meanwhile_is_not_held(tmp_path):
    """Between opening and locking, its holder may end and remove it: the lock must be on the file that is there."""
    held = lock.Lock.of(tmp_path)
    assert lock._same(held.path, held.handle)
    held.path.unlink()
    held.path.write_text("another's")
    assert not lock._same(held.path, held.handle)
    number = held.handle
    held.release()
    assert held.path.read_text() == "another's"
    again = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert again == number, "the system gives the lowest free number"
    held.release()  # closes nothing of somebody else
    os.fstat(again)
    os.close(again)
