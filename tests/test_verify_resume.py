"""`--verify-resume`: a real kill and a real resume, and differences that it must see."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from rlpost import verify_resume
from rlpost.errors import ConfigError, RlpostError, SelfCheckError
from rlpost.verify_resume import _moved, compared, verify
from tests import forked


def folder(place, loss=0.5, weight=1.0, text="7", seconds=2.0):
    """What a run leaves behind, in small."""
    (place / "model").mkdir(parents=True)
    lines = [
        {"step": 1, "phase": "train", "loss": loss, "time": seconds, "time/save": seconds, "tokens_per_s": seconds}
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (place / "rollouts.jsonl").write_text(json.dumps({"step": 1, "row": 0, "text": text}) + "\n")
    save_file({"w": torch.tensor([weight])}, str(place / "model" / "model.safetensors"))
    return place


def test_equal_but_for_the_clock(tmp_path):
    found = compared(folder(tmp_path / "a"), folder(tmp_path / "b", seconds=9.0))
    assert found == {"metrics": 1, "completions": 1, "files of weights": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"loss": 0.5 + 1e-16 * 2}, "metric loss of step 1"),
        ({"text": "8"}, "completion 0 of step 1"),
        ({"weight": 1.0 + 2**-23}, "weights model.safetensors"),
    ],
)
def test_the_last_bit_counts(change, says, tmp_path):
    with pytest.raises(SelfCheckError, match=f"1 differences:\\n  {says}"):
        compared(folder(tmp_path / "a"), folder(tmp_path / "b", **change))


def test_what_is_missing_differs_and_nothing_proves_nothing(tmp_path):
    whole, short = folder(tmp_path / "a"), folder(tmp_path / "b")
    (short / "rollouts.jsonl").unlink()
    with pytest.raises(SelfCheckError, match="missing after the kill"):
        compared(whole, short)
    whole_rows = (whole / "rollouts.jsonl").read_text()
    (short / "rollouts.jsonl").write_text(whole_rows * 2)
    with pytest.raises(SelfCheckError, match="completion 0 of step 1, written 2 times,: missing at once"):
        compared(whole, short)
    for place in (whole, short):
        shutil.rmtree(place / "model")
    shutil.copy(whole / "rollouts.jsonl", short / "rollouts.jsonl")
    with pytest.raises(SelfCheckError, match="nothing to compare"):
        compared(whole, short)


def test_what_cannot_be_verified_is_refused():
    for command, overrides, steps, says in (
        ("eval", [], 1, "has no steps to resume"),
        ("grpo", [], 0, "must be 1 or more"),
        ("grpo", ["run.dir=x"], 1, "leave out run.dir=x"),
    ):
        with pytest.raises(ConfigError, match=says):
            verify(command, overrides, steps)


def test_a_killed_run_goes_on_as_itself(monkeypatch):
    """The three runs are forked, which spares the imports; the test below starts one as users do."""
    monkeypatch.setattr(verify_resume, "_start", lambda command, given: forked.Run("rlpost", command, *given))
    said = []
    found = verify("sft", ["model=tiny", "trainer.per_device_train_batch_size=2"], 1, said.append)
    assert len(said) == 3 and found["files of weights"] == 1 and found["metrics"] > 4


def test_a_run_that_fails_is_told_with_what_it_said():
    with pytest.raises(RlpostError, match=r"ended with exit code 2:\n(?s:.*)trainer\.max_step"):
        verify("sft", ["model=tiny", "trainer.max_step=3"], 1, lambda _: None)


def test_a_run_without_any_gradient_proves_little(tmp_path):
    still, moving = folder(tmp_path / "a"), folder(tmp_path / "b")
    assert _moved(still)  # it logs no norm
    for place, norm in ((still, 0.0), (moving, 0.1)):
        (place / "metrics.jsonl").write_text(json.dumps({"step": 1, "grad_norm": norm}) + "\n")
    assert not _moved(still) and _moved(moving)
