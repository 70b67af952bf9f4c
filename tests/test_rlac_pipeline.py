"""A game of two models in one `rlpost run`: programs, attacks that a sandbox checks, and pairs for both."""

import itertools
import json
import math

import pytest
from safetensors.torch import load_file

from rlpost import catalogue, pipeline, sandbox
from rlpost.config import Config
from rlpost.run import files
from rlpost.run.folder import RunFolder

RIGHT, WRONG = "def f(x): return abs(x)", "def f(x): return x"
SHOWS, MISSES = "[-3]", "[3]"
# Bytes are tokens here, so the critic's question is short, and its attack has no fence.
TEMPLATE, PATTERN = "{question}|{program}", r"^(\[.*\])$"
SMALL = ["model=tiny", "run.report=false", "trainer.learning_rate=0.0003", "evaluation.tasks=0"]


def write(place, rows):
    place.write_text("\n".join(json.dumps(row) for row in rows))
    return f"dataset={{_target_: rlpost.dataset.files.files, path: {place}, test_share: 0.0}}"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Two rounds of the pipeline's game on the tiny model, which has seen right and wrong programs and attacks."""
    if sandbox.protections().mode == "none":
        pytest.skip(str(sandbox.protections().why))
    place = tmp_path_factory.mktemp("rlac")
    asked = [{"prompt": f"size {k}", "reference": RIGHT, "entry_point": "f"} for k in range(4)]
    shown = [{"prompt": one["prompt"], "completion": code} for one in asked for code in (RIGHT, WRONG)]
    both = itertools.product(range(4), (RIGHT, WRONG), (SHOWS, MISSES))
    shown += [{"prompt": f"user: size {k}|{code}", "completion": call} for k, code, call in both]
    tree = catalogue.read_yaml(catalogue.recipes_dir() / "pipeline" / "rlac.yaml")
    start, game = (one for one in tree["stages"] if one["name"] in ("start", "game"))
    many = ["trainer.max_steps=80", "trainer.learning_rate=0.02", "trainer.per_device_train_batch_size=16"]
    start["with"] = [write(place / "shown.jsonl", shown), *SMALL, *many, "trainer.warmup_steps=0"]
    outputs, generator, critic, _ = game["stages"]
    attack = [f"reward.survives.template='{TEMPLATE}'", f"reward.survives.pattern='{PATTERN}'"]
    outputs["with"] = [
        *outputs["with"], write(place / "asked.jsonl", asked), "model=tiny", "run.report=false", *attack,
        "reward.survives.max_tokens=8", "reward.survives.attacks=4", "rollout.max_tokens=26",
        "rollout.num_generations=6",
    ]  # fmt: skip
    learn = [*SMALL, "trainer.max_steps=2", "trainer.per_device_train_batch_size=4"]
    generator["with"], critic["with"] = learn, [*learn, f"build.template='{TEMPLATE}'"]
    game |= {"times": 2, "stages": [outputs, generator, critic]}
    cfg = Config("run", {"seed": 0, "run": {"dir": str(place / "p")}}, {}, {}, [])
    cfg.tree["pipeline"] = {"stages": [start, game]}
    pipeline.run(cfg, RunFolder.create(cfg))
    return place / "p"


def rows(run, name):
    return files.read_lines(run / f"{name}.jsonl")


def moved(a, b):
    one, other = (load_file(run / "model" / "model.safetensors") for run in (a, b))
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_the_sandbox_says_who_is_right(ran):
    lines = [one for k in (1, 2) for one in rows(ran / f"game-{k}" / "outputs", "rollouts")]
    seen = set()
    for one in lines:
        attacks = json.loads(one["info"]["attacks"])
        assert one["info"]["validator_calls"] == sum(attack["valid"] for attack in attacks)
        if one["text"] in (RIGHT, WRONG):
            for attack in (attack for attack in attacks if attack["reply"] in (SHOWS, MISSES)):
                assert attack["valid"] and attack["passed"] == (one["text"] == RIGHT or attack["reply"] == MISSES)
                seen.add((one["text"], attack["reply"]))
    assert len(seen) == 4, "right and wrong programs, attacks that show it and that miss it"
    assert {one["scores"]["survives"] for one in lines} >= {0.0, 1.0}


def test_both_learn_from_pairs_of_one_iteration_and_go_on_in_the_next(ran):
    for name in ("generator", "critic"):
        for before, after in itertools.pairwise([ran / "start", ran / "game-1" / name, ran / "game-2" / name]):
            assert moved(before, after) > 1e-5
            losses = [one["loss"] for one in rows(after, "metrics") if one.get("phase") == "train" and "loss" in one]
            assert losses[0] == pytest.approx(math.log(2), abs=1e-4), "the reference is the policy as it starts"
            assert losses[1] != losses[0]
        pairs = [one["columns"] for k in (1, 2) for one in rows(ran / f"game-{k}" / name, "built")]
        assert pairs and all(one["chosen"] != one["rejected"] for one in pairs)
        if name == "critic":
            assert any((one["chosen"], one["rejected"]) == (SHOWS, MISSES) for one in pairs)
    second = catalogue.read_yaml(ran / "game-2" / "outputs" / "config.yaml")
    assert second["models"]["critic"]["model"]["run"] == str(ran / "game-1" / "critic")
    assert second["init"] == str(ran / "game-1" / "generator" / "model")
