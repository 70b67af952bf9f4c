"""A checkpoint of somebody else whose files are programs: none of them is run when the run is continued."""

import pickle
import shutil
import zipfile
from pathlib import Path

import pytest

from rlpost import execute
from rlpost.errors import ModelError
from rlpost.run import checkpoint
from tests.models.test_trusted import Bomb

RUN = ["model=tiny", "debug=smoke", "dataset.train_size=16", "trainer.save_steps=1", "trainer.max_steps=1"]
# What transformers and rlpost read again; the last one is only ever written.
PICKLES = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "rlpost.pt", "training_args.bin"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("poisoned") / "run"
    execute.execute("sft", [*RUN, f"run.dir={place}"])
    return place


def poison(place: Path, name: str, mark: Path) -> None:
    """Put a bomb in place of a file of the newest checkpoint, in either format of torch, and seal it again."""
    step = checkpoint.newest(place / "checkpoints")
    assert step is not None and (step / name).is_file()
    bomb = pickle.dumps(Bomb(mark))
    if zipfile.is_zipfile(step / name):
        with zipfile.ZipFile(step / name) as archive:
            inner = next(entry for entry in archive.namelist() if entry.endswith("data.pkl")).partition("/")[0]
            others = {e: archive.read(e) for e in archive.namelist() if not e.endswith("/data.pkl")}
        with zipfile.ZipFile(step / name, "w") as archive:
            for entry, content in {f"{inner}/data.pkl": bomb, **others}.items():
                archive.writestr(entry, content)
    else:
        (step / name).write_bytes(bomb)
    (step / checkpoint.MANIFEST).unlink()
    checkpoint._seal(step)
    assert checkpoint.verify(step) == []


@pytest.mark.parametrize("name", PICKLES)
def test_no_file_of_a_checkpoint_runs(run, name, tmp_path, capsys):
    place, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(run, place)
    poison(place, name, mark)
    again = [f"resume={place}", "trainer.max_steps=2"]
    code = execute.exit_code(lambda: execute.execute("sft", again), "sft")
    assert not mark.exists()
    if name == "training_args.bin":
        assert code == 0
        return
    told = capsys.readouterr().err
    assert (
        code == ModelError.exit_code and "holds more than numbers and was not read" in told and "Traceback" not in told
    )


def test_weights_that_are_a_pickle_are_not_read(run, tmp_path, capsys):
    place, mark = tmp_path / "run", tmp_path / "mark"
    shutil.copytree(run, place)
    step = checkpoint.newest(place / "checkpoints")
    shutil.copy(step / "optimizer.pt", step / "model.safetensors")
    poison(place, "model.safetensors", mark)
    (step / "model.safetensors").rename(step / "pytorch_model.bin")
    (step / checkpoint.MANIFEST).unlink()
    checkpoint._seal(step)
    code = execute.exit_code(lambda: execute.execute("sft", [f"resume={place}", "trainer.max_steps=2"]), "sft")
    assert not mark.exists()
    assert code == ModelError.exit_code and "Traceback" not in capsys.readouterr().err
