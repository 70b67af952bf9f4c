"""A step whose keep rules drop groups is filled up from further prompts, and the curriculum hears of them all."""

import json

from rlpost.config import compose
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo


def steps(place, *overrides):
    """Per step: the groups that were drawn, and those that stayed."""
    band = ["keep=[difficulty_band]", "keep.difficulty_band.low=4.0", "keep.difficulty_band.high=5.0"]
    small = ["trainer.max_steps=2", "trainer.per_device_train_batch_size=12", "rollout.num_generations=3"]
    folder = ["evaluation.tasks=0", "run.report=false", f"run.dir={place}"]
    cfg = compose("grpo", ["model=tiny", "reward=[]", *band, *small, *folder, *overrides])
    assert not cfg.faults
    cfg.tree["rollout"]["_target_"] = "tests.trainers.scripted.collect"
    cfg.tree["reward"] = {"uneven": {"_target_": "tests.trainers.scripted.uneven"}}
    grpo.run(cfg, RunFolder.create(cfg))
    lines = [json.loads(line) for line in (place / "rollouts.jsonl").read_text().splitlines()]
    drawn = [{r["group"] for r in lines if r["step"] == step} for step in (1, 2)]
    stayed = [{r["group"] for r in lines if r["step"] == step and r["advantage"] is not None} for step in (1, 2)]
    return [(len(a), len(b)) for a, b in zip(drawn, stayed, strict=True)]


def test_a_step_is_filled_up(tmp_path):
    once = steps(tmp_path / "once")
    assert [drawn for drawn, _ in once] == [4, 4] and min(stayed for _, stayed in once) < 4
    again = steps(tmp_path / "again", "rollout.max_draws=20")
    assert [stayed for _, stayed in again] == [4, 4] and all(4 <= drawn <= 80 for drawn, _ in again)
