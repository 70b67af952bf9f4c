"""Every pipeline that is a published method runs: two rounds of each loop, two real steps of each stage that trains."""

import json
from pathlib import Path

import pytest
import yaml

from rlpost import catalogue, explain, pipeline
from rlpost.config import Config
from rlpost.run.folder import RunFolder
from rlpost.stages import TRAINING, plan

ROOT = catalogue.recipes_dir() / "pipeline"
METHODS = {path.stem: data for path in sorted(ROOT.glob("*.yaml")) if "about" in (data := catalogue.read_yaml(path))}
SMALL = ["model=tiny", "debug=smoke", "run.report=false"]
# Where random texts make no data for the next stage, a test of its own runs the pipeline on a model that was taught.
TESTS = Path(__file__).parents[1]
TAUGHT = {path.stem.removeprefix("test_").removesuffix("_pipeline") for path in TESTS.glob("test_*_pipeline.py")}
# A random model answers nothing right, so where a build asks for right and wrong answers, half of all texts are right.
HALF = "reward.{}={{_target_: rlpost.reward.format.matches, pattern: '(?:..)*', where: whole}}"
HALVED = {"raft": ("correct", "sample"), "sppo": ("correct", "sample"), "veripo": ("correct", "grpo")}
HALVED |= {"think_rm_whole": ("comparison", "sample")}
# Eight tokens are no whole trace, and what a random model says of two answers is no verdict.
MORE = {
    "think_rm_whole": {
        "start": ["build.whole=false"],
        "policy": ["reward.pair_judge.max_unparsable=1.0", "reward.pair_judge.max_tokens=8"],
    }
}


def small(name: str) -> dict:
    """The pipeline with a tiny model and two rounds at most; what its stages pick stays."""

    tree = METHODS[name]

    def cut(nodes):
        return [
            {
                **node,
                "with": [*node.get("with", []), *MORE.get(name, {}).get(node.get("name"), [])],
                **({"times": min(2, node["times"])} if "times" in node else {}),
                **({"stages": cut(node["stages"])} if "stages" in node else {}),
            }
            for node in nodes
        ]

    given = {verb: ["evaluation.tasks=0"] for verb in TRAINING} | {"sample": []}
    if name in HALVED:
        reward, verb = HALVED[name]
        given[verb] = [*given[verb], HALF.format(reward)]
    return {"with": {"all": SMALL, **given}, "stages": cut(tree["stages"]), "table": tree["table"]}


def test_the_pipelines_are_found():
    assert len(METHODS) >= 6


@pytest.mark.parametrize("name", [name for name in METHODS if name not in TAUGHT])
def test_two_steps_of_every_stage(name, tmp_path):
    tree = small(name)
    cfg = Config("run", {"seed": 0, "run": {"dir": str(tmp_path / "p")}, "pipeline": tree}, {}, {}, [])
    found = pipeline.run(cfg, RunFolder.create(cfg))
    for row in (row for part in found["tables"] for row in part["rows"]):
        assert "–" not in row or row[0] == "round 3", row  # two of three rounds have run
    for stage in plan(tree):
        folder = tmp_path.joinpath("p", *stage.path)
        assert json.loads((folder / "done.json").read_text())["status"] == "ok"
        if stage.verb not in TRAINING:
            continue
        steps = [one["step"] for one in RunFolder.open(folder).metrics() if one.get("grad_norm") is not None]
        assert steps == [1, 2], stage.label
        assert (folder / "built.jsonl").exists() == bool(stage.build)


@pytest.mark.parametrize("name", METHODS)
def test_it_says_what_it_is(name):
    about = METHODS[name]["about"]
    assert set(about) == {"title", "paper", "claim", "assumed"}
    assert all(isinstance(text, str) and text.strip() for text in about.values())
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
