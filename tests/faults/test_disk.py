"""A full disk ends a run with one sentence; what was there before is whole, and the run goes on from it."""

import os

import pytest
import torch
from safetensors.torch import save_file

from rlpost import execute, ledger
from rlpost.errors import RlpostError
from rlpost.run import checkpoint, files
from rlpost.run.folder import RunFolder
from tests.faults.disk import fill, largest_file, small_disk

RUN = [
    "model=tiny",
    "evaluation.tasks=0",
    "dataset.train_size=32",
    "trainer.per_device_train_batch_size=2",
    "trainer.save_steps=1",
]
KIB = 1024


def test_a_run_on_a_full_disk_keeps_its_checkpoint_and_goes_on_when_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        place = disk / "run"
        execute.execute("sft", [*RUN, "trainer.max_steps=1", f"run.dir={place}", "run.report=false"])
        (place / "done.json").unlink()
        ballast = fill(disk, leave=100 * KIB)  # room for metrics, none for a checkpoint
        with pytest.raises(RlpostError) as raised:
            execute.execute("sft", [f"resume={place}", "trainer.max_steps=2"])
        said = str(raised.value)
        assert "disk is full" in said and "step-000002" in said and "untouched" in said and len(said.splitlines()) == 1
        assert raised.value.exit_code == 1
        whole, skipped = checkpoint.latest(place / "checkpoints")
        assert whole is not None and whole.name == "step-000001" and skipped == []
        assert not (place / "run.lock").exists()
        ballast.unlink()
        result = execute.execute("sft", [f"resume={place}", "trainer.max_steps=2"])
        assert result["steps"] == 2 and (place / "model" / "model.safetensors").is_file()


def test_a_file_that_the_system_refuses_leaves_the_earlier_checkpoint(tmp_path):
    """Also without the right to mount anything: torch.save meets EFBIG and hides it in a message of its own."""
    with checkpoint.atomic_folder(tmp_path / "step-1") as partial:
        torch.save({"w": torch.zeros(10)}, partial / "state.pt")
    with (
        largest_file(20 * KIB),
        pytest.raises(RlpostError, match=r"step-2.*untouched"),
        checkpoint.atomic_folder(tmp_path / "step-2") as partial,
    ):
        torch.save({"w": torch.zeros(100_000)}, partial / "state.pt")
    assert checkpoint.latest(tmp_path) == (tmp_path / "step-1", [])
    assert [place.name for place in tmp_path.iterdir()] == ["step-1"]


def test_a_file_that_is_too_large_is_told_with_the_words_of_the_system(tmp_path):
    (tmp_path / "report.html").write_text("the old one")
    with largest_file(20 * KIB):
        with pytest.raises(files.Unwritable, match=r"report\.html could not be written \(File too large\)"):
            files.write(tmp_path / "report.html", "x" * 100_000)
        with pytest.raises(files.Unwritable, match="File too large"), files.disk(tmp_path / "a"):
            save_file({"w": torch.zeros(100_000)}, tmp_path / "a")
    assert (tmp_path / "report.html").read_text() == "the old one"


@pytest.fixture
def folder(tmp_path):
    """A run folder whose rollouts and metrics go to a device that is always full."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    made = RunFolder(tmp_path)
    for name in ("metrics.jsonl", "rollouts.jsonl", "report.html.partial", "ledger.json.partial"):
        (tmp_path / name).symlink_to("/dev/full")
    return made


def test_metrics_rollouts_report_and_ledger_on_a_full_disk_are_a_sentence(folder):
    (folder.path / "report.html").write_text("the old one")
    with pytest.raises(RlpostError, match=r"disk is full: .*metrics\.jsonl could not.*there is no checkpoint yet"):
        folder.log({"step": 1})
    with pytest.raises(RlpostError, match=r"disk is full: .*rollouts\.jsonl"):
        folder.rollouts([{"step": 1}])
    (folder.path / "metrics.jsonl").unlink()  # a page is written from what is there
    (folder.path / "rollouts.jsonl").unlink()
    with pytest.raises(RlpostError, match=r"disk is full: .*report\.html.*`rlpost report .*` writes it"):
        folder.report()
    assert (folder.path / "report.html").read_text() == "the old one"
    ledger.reset().drop("too long", "row 1")
    with pytest.raises(RlpostError, match=r"disk is full: .*ledger\.json"):
        folder.save_ledger()
    ledger.reset()


def test_an_end_that_cannot_be_written_does_not_hide_the_error_that_ended_the_run(folder):
    ledger.reset().drop("too long", "row 1")
    folder.done(RlpostError("the first error"))
    assert folder.outcome()["message"] == "the first error"
    (folder.path / "done.json.partial").symlink_to("/dev/full")
    folder.done(RlpostError("the second error"))
    with pytest.raises(RlpostError, match="disk is full"):
        folder.done({"steps": 1})
    ledger.reset()


def test_what_torch_and_safetensors_say_of_a_full_disk_is_recognised(tmp_path):
    big = {"w": torch.zeros(300_000)}
    with small_disk(tmp_path / "disk", 1) as disk:
        for save in (lambda: torch.save(big, disk / "a"), lambda: save_file(big, disk / "b")):
            with pytest.raises(files.Unwritable, match="disk is full"), files.disk(disk / "x"):
                save()
