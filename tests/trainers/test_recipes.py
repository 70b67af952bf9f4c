"""Every recipe on disk trains two real steps of its command on a tiny random model, through the ordinary door."""

import json
import re
from pathlib import Path

import pytest
import torch

from rlpost import catalogue, sandbox
from rlpost.execute import execute

# A report takes as long as the two steps. Every sixth recipe writes one; tests/run has those of odd metrics.
REPORTED = 6
RECIPES = sorted(p.stem for p in (catalogue.recipes_dir() / "recipe").glob("*.yaml"))


# Papers about video whose recipes pick no data: two steps on clips too.
ABOUT_VIDEO = ("deepvideo_r1", "grpo_care")


def commands(name: str) -> list[str]:
    """The verbs that train with a recipe: those whose axes it picks."""
    found = catalogue.commands_of(catalogue.recipes_dir() / "recipe" / f"{name}.yaml")
    return [command for command in found if command in ("sft", "grpo", "dpo", "reward")]


def test_recipes_were_found():
    assert len(RECIPES) >= 17


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name, tmp_path):
    verbs = commands(name)
    assert verbs
    for command in verbs:
        text = (catalogue.recipes_dir() / "recipe" / f"{name}.yaml").read_text()
        if "unit_tests" in text and sandbox.protections().mode == "none":
            pytest.skip(str(sandbox.protections().why))
        seeing = "video_tiny" in text
        model = ["model=video_tiny", "dataset.train=32", "dataset.test=16"] if seeing else ["model=tiny"]
        model = ["model=diffusion_tiny"] if "diffusion_tiny" in text else model
        # A second model is played by the stand-in: what it says is not what these steps are about. A teacher that is
        # the run's own model stays, because it must read the policy's own tokens.
        stand_in = "{_target_: rlpost.models.scorer.stand_in.StandIn}"
        picks = re.findall(rf"- /{catalogue.ROLES}@(models\.\w+): (\w+)", text)
        model += [f"{role}={stand_in}" for role, pick in picks if pick != "own"]
        folder = tmp_path / command
        report = RECIPES.index(name) % REPORTED == 0
        small = ["debug=smoke", "evaluation.tasks=4", f"run.report={str(report).lower()}", f"run.dir={folder}"]
        execute(command, [f"recipe={name}", *model, *small])
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        trained = [r for r in records if r.get("phase") == "train" and r.get("grad_norm") is not None]
        assert [r["step"] for r in trained] == [1, 2]
        assert all(r["loss"] is not None and torch.isfinite(torch.tensor(r["loss"])) for r in trained)
        assert json.loads((folder / "done.json").read_text())["status"] == "ok"
        assert Path(folder / "model").is_dir()
        assert not report or (folder / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("name", ABOUT_VIDEO)
def test_two_steps_on_clips(name, tmp_path):
    data = ["model=video_tiny", "dataset=clips", "dataset.train=8", "dataset.test=4", "dataset.kinds=[direction,first]"]
    small = ["debug=smoke", "evaluation.tasks=2", "run.report=false", f"run.dir={tmp_path}"]
    execute("grpo", [f"recipe={name}", *data, *small])
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if r.get("grad_norm") is not None] == [1, 2]
