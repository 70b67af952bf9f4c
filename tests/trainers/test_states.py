"""Schedules that remember, in a run: they hear of each step before the next, on every rank, and through a restart."""

import json
import math
import shutil

import pytest
import torch

from rlpost.errors import ConfigError
from tests.trainers.test_ranks import apart, train
from tests.trainers.test_reference import run

WEIGHED = [
    "recipe=recap_reweight", "schedules.reweight.window=1", "schedules.reweight.temperature=0.5",
    "reward.format.pattern='[^e]*'", "aux.replay.rows=4", "trainer.max_steps=5",
]  # fmt: skip
NAMES = ("reward/correct", "reward/format", "aux/replay")


def lines(folder, name="metrics"):
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def trained(folder):
    return {one["step"]: one for one in lines(folder) if one.get("grad_norm") is not None}


def test_the_weights_of_a_step_follow_the_two_steps_before_and_survive_a_restart(tmp_path):
    whole = tmp_path / "whole"
    run(whole, *WEIGHED)
    steps = trained(whole)
    for step in (1, 2):
        assert [steps[step][f"reweight/{name}"] for name in NAMES] == [1.0] * 3
    for step in (3, 4, 5):
        before, now = steps[step - 2], steps[step - 1]
        losses = [[1 - one[NAMES[0]], 1 - one[NAMES[1]], one["aux/replay/mean"]] for one in (before, now)]
        shares = [math.exp(2 * (b / a if a > 1e-8 else 1.0)) for a, b in zip(*losses, strict=True)]
        weights = [3 * share / sum(shares) for share in shares]
        assert [steps[step][f"reweight/{name}"] for name in NAMES] == pytest.approx(weights, rel=1e-5)
        assert steps[step]["aux/replay/loss"] == pytest.approx(weights[2] * steps[step]["aux/replay/mean"], rel=1e-5)
        for row in (one for one in lines(whole, "rollouts") if one["step"] == step):
            scores = [row["scores"][name.split("/")[1]] for name in NAMES[:2]]
            assert row["reward"] == pytest.approx(weights[0] * scores[0] + weights[1] * scores[1], rel=1e-5)
    assert len({round(steps[step]["reweight/reward/format"], 4) for step in (2, 3, 4, 5)}) > 2, "the weights must move"
    noted = torch.load(whole / "checkpoints/step-000001/rlpost.pt", weights_only=True)["extra"]["states"]["noted"]
    assert {*NAMES[:2], "aux/replay/mean"} <= set(noted), "the first step is over, and nobody has been told"
    half = tmp_path / "half"
    shutil.copytree(whole, half)
    for step in (4, 5):
        shutil.rmtree(half / "checkpoints" / f"step-{step:06d}")
    shutil.rmtree(half / "model")
    (half / "done.json").unlink()
    run(half, *WEIGHED, f"resume={half}")
    again = trained(half)
    kept = [key for key in steps[5] if not key.startswith("time") and not key.endswith("_per_s")]
    for step in (4, 5):
        assert {key: again[step][key] for key in kept} == {key: steps[step][key] for key in kept}


def test_ranks_hear_the_same(tmp_path):
    told = "{_target_: rlpost.schedule.told, by: '${schedules.reweight}', of: aux/expert}"
    recap = "{_target_: rlpost.reweight.Recap, objectives: [aux/expert, reward/uneven], window: 1, temperature: 0.5}"
    common = ["dataset=arithmetic_sft", "aux=[expert]", "aux.expert.rows=6", "trainer.max_steps=3"]
    moving = [*common, f"schedules.reweight={recap}", f"aux.expert.coef={told}"]
    whole = train(tmp_path / "a", *moving, "trainer.per_device_train_batch_size=16")
    half = [*moving, "trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=2"]
    assert apart(whole, train(tmp_path / "b", *half, ranks=2)) < 1e-6
    weights = [trained(tmp_path / name)[3]["reweight/aux/expert"] for name in "ab"]
    assert weights[0] == pytest.approx(weights[1], rel=1e-5) and abs(weights[0] - 1) > 0.01


def test_an_objective_that_the_run_does_not_have_is_refused(tmp_path):
    wrong = "schedules.reweight.objectives=[reward/correct,reward/format,aux/replai]"
    with pytest.raises(ConfigError, match=r"weighs 'aux/replai', .* did you mean 'aux/replay'"):
        run(tmp_path, *WEIGHED, wrong)
