"""A run that was killed before its first checkpoint has logged steps; begun anew in its folder, it has them once."""

import shutil

import pytest

from rlpost import execute
from rlpost.verify_resume import compared

SHORT = ["model=tiny", "debug=smoke", "run.report=false", "trainer.max_steps=2", "trainer.save_steps=1", "seed=3"]


@pytest.mark.parametrize("command", ["grpo", "sft", "dpo"])
def test_steps_that_come_again_are_logged_once(command, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    execute.execute(command, [*SHORT, f"run.dir={whole}"])
    shutil.copytree(whole, killed)
    for place in (killed / "checkpoints", killed / "model"):
        shutil.rmtree(place)
    (killed / "checkpoints").mkdir()
    (killed / "done.json").unlink()
    execute.execute(command, [f"resume={killed}"])
    equal = compared(whole, killed)
    assert equal["metrics"] > 10 and equal["files of weights"] >= 1
