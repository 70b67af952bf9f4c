"""Checkpoints are whole or absent, and damage is noticed."""

import errno

import pytest

from rlpost.errors import RlpostError
from rlpost.run import checkpoint


def save(path, **contents):
    with checkpoint.atomic_folder(path) as partial:
        for name, content in contents.items():
            place = partial / name.replace("__", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)


def test_a_checkpoint_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "step-000020"
    with checkpoint.atomic_folder(target) as partial:
        (partial / "model.bin").write_bytes(b"abc")
        assert not target.exists()
        assert partial.parent == tmp_path
    assert checkpoint.verify(target) == []
    assert [place.name for place in tmp_path.iterdir()] == ["step-000020"]


def test_a_failure_leaves_the_earlier_one_and_no_debris(tmp_path):
    save(tmp_path / "step-000020", model=b"old")
    with pytest.raises(ValueError, match="boom"), checkpoint.atomic_folder(tmp_path / "step-000020") as partial:
        (partial / "model").write_bytes(b"new")
        raise ValueError("boom")
    assert (tmp_path / "step-000020" / "model").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
    save(tmp_path / "step-000020", model=b"newer", extra__rng=b"1")
    assert (tmp_path / "step-000020" / "model").read_bytes() == b"newer"
    assert checkpoint.verify(tmp_path / "step-000020") == []


def test_a_failed_rename_puts_the_old_checkpoint_back(tmp_path, monkeypatch):
    target = tmp_path / "step-000020"
    save(target, model=b"old")
    real = type(tmp_path).rename

    def rename(self, other):
        if self.name == ".partial-step-000020":
            raise OSError(errno.EIO, "broken")
        return real(self, other)

    monkeypatch.setattr(type(tmp_path), "rename", rename)
    with pytest.raises(RlpostError, match=r"Input/output error.*untouched"):
        save(target, model=b"new")
    assert (target / "model").read_bytes() == b"old"


def test_verify_names_what_is_wrong(tmp_path):
    target = tmp_path / "step-000003"
    save(target, a=b"12345", sub__b=b"xyz")
    (target / "sub" / "b").write_bytes(b"xyw")
    assert checkpoint.verify(target) == [f"{target / 'sub' / 'b'} differs from its checksum in the manifest."]
    (target / "a").write_bytes(b"1234")
    assert "has 4 bytes, the manifest says 5" in checkpoint.verify(target)[0]
    (target / "a").unlink()
    assert "missing" in checkpoint.verify(target)[0]
    (target / "manifest.json").write_text("{")
    assert "damaged" in checkpoint.verify(target)[0]
    (target / "manifest.json").unlink()
    assert "not written to the end" in checkpoint.verify(target)[0]


def test_latest_passes_over_half_written_and_damaged_ones(tmp_path):
    for step in (2, 9, 10, 11):
        save(tmp_path / f"step-{step}", model=bytes([step]))
    (tmp_path / "step-11" / "model").write_bytes(b"x")
    (tmp_path / "step-12").mkdir()
    (tmp_path / ".partial-step-13").mkdir()
    found = checkpoint.latest(tmp_path)
    assert found.path == tmp_path / "step-10"
    assert len(found.skipped) == 3
    assert "step-13" in found.skipped[0]
    assert "Skipped the checkpoint step-12" in found.skipped[1]
    assert "Skipped the checkpoint step-11" in found.skipped[2]
    assert checkpoint.latest(tmp_path / "none") == (None, [])
    assert checkpoint.step_of("a/step-000020") == 20


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"),  # torch 2.13, tmpfs
    ],
)
def test_a_full_disk_is_a_sentence(tmp_path, fault):
    save(tmp_path / "step-1", model=b"old")
    with (
        pytest.raises(RlpostError, match=r"disk is full: .*step-2.*untouched"),
        checkpoint.atomic_folder(tmp_path / "step-2"),
    ):
        raise fault
    assert checkpoint.latest(tmp_path).path == tmp_path / "step-1"
