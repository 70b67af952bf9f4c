"""Every pipeline that is a published method runs: two rounds of each loop, two real steps of each stage that trains."""

import json
from pathlib import Path

import pytest
import yaml

from rlpost import catalogue, explain, pipeline
from rlpost.config import Config, check, compose
from rlpost.run.folder import RunFolder
from rlpost.stages import TRAINING, plan

ROOT = catalogue.recipes_dir() / "pipeline"
METHODS = {path.stem: data for path in sorted(ROOT.glob("*.yaml")) if "about" in (data := catalogue.read_yaml(path))}
SMALL = ["model=tiny", "debug=smoke", "run.report=false"]
# Where random texts make no data for the next stage, a test of its own runs the pipeline on a model that was taught.
TESTS = Path(__file__).parents[1]
TAUGHT = {path.stem.removeprefix("test_").removesuffix("_pipeline") for path in TESTS.glob("test_*_pipeline.py")}


def small(tree: dict) -> dict:
    """The pipeline with a tiny model and two rounds at most; what its stages pick stays."""

    def cut(nodes):
        return [
            {
                **node,
                **({"times": min(2, node["times"])} if "times" in node else {}),
                **({"stages": cut(node["stages"])} if "stages" in node else {}),
            }
            for node in nodes
        ]

    quiet = {verb: ["evaluation.tasks=0"] for verb in TRAINING}
    return {"with": {"all": SMALL, **quiet}, "stages": cut(tree["stages"])}


def test_the_pipelines_are_found():
    assert len(METHODS) >= 6


@pytest.mark.parametrize("name", [name for name in METHODS if name not in TAUGHT])
def test_two_steps_of_every_stage(name, tmp_path):
    tree = small(METHODS[name])
    cfg = Config("run", {"seed": 0, "run": {"dir": str(tmp_path / "p")}, "pipeline": tree}, {}, {}, [])
    pipeline.run(cfg, RunFolder.create(cfg))
    for stage in plan(tree):
        folder = tmp_path.joinpath("p", *stage.path)
        assert json.loads((folder / "done.json").read_text())["status"] == "ok"
        if stage.verb not in TRAINING:
            continue
        steps = [one["step"] for one in RunFolder.open(folder).metrics() if one.get("grad_norm") is not None]
        assert steps == [1, 2], stage.label
        assert (folder / "built.jsonl").exists() == bool(stage.build)


@pytest.mark.parametrize("name", METHODS)
def test_it_says_what_it_is_and_passes_the_check(name):
    about = METHODS[name]["about"]
    assert set(about) == {"title", "paper", "claim", "assumed"}
    assert all(isinstance(text, str) and text.strip() for text in about.values())
    check(compose("run", [f"pipeline={name}"]))
    listed = {row["name"]: row for row in json.loads(explain.listing(None, None, True, None))}
    assert listed[name] == {"name": name, "command": f"run pipeline={name}", **about}
    text = explain.explain(name, False, None)
    assert about["title"] in text and f"rlpost run pipeline={name}" in text and "Equation" in text


def test_no_other_pipeline_passes_for_a_method():
    rest = {path.stem for path in ROOT.glob("*.yaml")} - set(METHODS)
    listed = {
        row["name"] for row in json.loads(explain.listing(None, None, True, None)) if "pipeline" in row["command"]
    }
    assert listed == set(METHODS) and not rest & listed
    facts = json.loads(explain.explain("sft_then_grpo", True, None))
    assert facts["stages"][1].startswith("grpo rl") and yaml.safe_load(facts["line"]) is not None
