"""Two policies by turns in one `rlpost run`: a generator of sums in steps, and the verifier that judges the steps."""

import itertools
import json
import math
import random

import pytest
import torch
from safetensors.torch import load_file

from rlpost import catalogue, pipeline
from rlpost.config import Config
from rlpost.run import checkpoint
from rlpost.run.folder import RunFolder

# Bytes are tokens here, so the verifier's question is short, and its verdict has no fence.
TEMPLATE = "{question}|{steps}|"
PATTERN = r"^V((?: [01])+) = ([01])$"
ASK = "Calculate {a} + {b}. Reply with only the number."
SHORT = [
    f"reward.verifier_steps.template='{TEMPLATE}'", f"reward.verifier_steps.pattern='{PATTERN}'",
    "reward.verifier_steps.max_tokens=12", "rollout.max_tokens=10",
]  # fmt: skip
JUDGE = [
    f"build.template='{TEMPLATE}'", f"reward.verdict_right.pattern='{PATTERN}'",
    f"reward.verdict_form.pattern='{PATTERN}'", "rollout.max_tokens=12",
]  # fmt: skip
SMALL = [
    "model=tiny", "trainer.learning_rate=0.001", "trainer.per_device_train_batch_size=16", "rollout.num_generations=8",
    "evaluation.tasks=0", "run.report=false",
]  # fmt: skip

ODD = ["trainer.per_device_train_batch_size=20", "rollout.num_generations=4"]  # five solutions: the classes are uneven


def demonstrations(place):
    """Both roles shown once: a step and an answer that is right or one too many, and verdicts that are guesses."""
    rng, rows = random.Random(0), []
    for _ in range(96):
        a, b = rng.randint(0, 3), rng.randint(0, 3)
        asked, said = ASK.format(a=a, b=b), a + b + rng.randint(0, 1)
        rows.append({"prompt": asked, "completion": f"{a}\n\n{said}"})
        verdict = f"V {rng.randint(0, 1)} {rng.randint(0, 1)} = {rng.randint(0, 1)}"
        rows.append({"prompt": f"user: {asked}|Step 1: {a}\nStep 2: {said}|", "completion": verdict})
    place.write_text("\n".join(json.dumps(row) for row in rows))
    return place


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The stages of the pipeline on the tiny model, after a start on demonstrations, with two rounds."""
    place = tmp_path_factory.mktemp("tango")
    rows = demonstrations(place / "rows.jsonl")
    tree = catalogue.read_yaml(catalogue.recipes_dir() / "pipeline" / "rl_tango.yaml")
    first, verifier, loop = (one for one in tree["stages"] if one["name"] in ("first", "verifier", "tango"))
    generator, again = loop["stages"]
    sums = ["dataset.largest=3", "dataset.train_size=32"]
    start = {
        "name": "start", "run": "sft",
        "with": [f"dataset={{_target_: rlpost.dataset.files.files, path: {rows}, test_share: 0.02}}", "model=tiny",
                 "trainer.learning_rate=0.02", "trainer.max_steps=60", "trainer.per_device_train_batch_size=16",
                 "evaluation.tasks=0", "run.report=false", "trainer.warmup_steps=0"],
    }  # fmt: skip
    first |= {
        "init": "start",
        "with": [*first["with"], "model=tiny", *sums, "trainer.limit=8", "rollout.max_tokens=10"],
    }
    verifier |= {"init": "start", "with": [*verifier["with"], *SMALL, *JUDGE, *ODD, "trainer.max_steps=2"]}
    generator |= {"init": "start", "with": [*generator["with"], *SMALL, *SHORT, *sums]}
    again["with"] = [*again["with"], *SMALL, *JUDGE, *ODD]
    loop["times"] = 2
    cfg = Config("run", {"seed": 0, "run": {"dir": str(place / "p")}}, {}, {}, [])
    cfg.tree["pipeline"] = {"stages": [start, first, verifier, loop]}
    pipeline.run(cfg, RunFolder.create(cfg))
    return place / "p"


def lines(run, name="rollouts"):
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def state(run):
    return torch.load(checkpoint.latest(run / "checkpoints").path / "rlpost.pt", weights_only=True)["extra"]


def moved(a, b):
    one, other = (load_file(run / "model" / "model.safetensors") for run in (a, b))
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def spread(values):
    return max(values) - min(values)


def test_both_policies_learn_by_turns(ran):
    """Every training stage has something to learn from, and goes on from the weights before it."""
    chain = {
        "generator": ["start", "tango-1/generator", "tango-2/generator"],
        "verifier": ["start", "verifier", "tango-1/verifier", "tango-2/verifier"],
    }
    for runs in chain.values():
        for before, after in itertools.pairwise(runs):
            learnt = [row["advantage"] for row in lines(ran / after)]
            assert any(learnt) and moved(ran / before, ran / after) > 1e-4, after
        assert moved(ran / runs[0], ran / runs[-1]) < 0.2, "the last is still a child of the first"


def test_the_verifier_judges_what_the_generator_wrote_last(ran):
    asked = {
        (row["task"], f"Step 2: {row['text'].partition(chr(10) * 2)[2]}") for row in lines(ran / "tango-1/generator")
    }
    for row in lines(ran / "tango-1/verifier"):
        assert any(task == row["task"].partition("#")[0] and step in row["prompt"] for task, step in asked)
    judged = [row for row in lines(ran / "tango-1/generator") if row["scores"]["verifier_steps"] == [0.5, -0.5]]
    replies = {row["info"]["verifier_reply"][:5] for row in judged}
    assert replies <= {"V 1 0"}
    known = [row for row in lines(ran / "tango-1/generator") if None not in row["scores"]["verifier_steps"]]
    assert len(known) > 20 and {len(row["scores"]["verifier_steps"]) for row in known} >= {2}


def test_the_share_of_the_steps_fades_with_all_updates_of_the_generator(ran):
    """Where a group's steps all score the same, the advantage is (1 - share) times that of the outcomes alone."""
    seen = 0
    for round_, run in enumerate(("tango-1", "tango-2")):
        assert state(ran / run / "generator")["before"] == 3 * round_
        groups = {}
        for row in lines(ran / run / "generator"):
            groups.setdefault((row["step"], row["group"]), []).append(row)
        for (step, _), rows in groups.items():
            steps = {one for row in rows for one in row["scores"]["verifier_steps"] if one is not None}
            right = torch.tensor([row["scores"]["correct"] for row in rows])
            if len(steps) > 1 or spread(right.tolist()) == 0:
                continue
            left = 1 - 0.5 * math.exp(-(3 * round_ + step - 1) / 100)
            want = left * (right - right.mean()) / (right.std() + 1e-4)
            assert [row["advantage"] for row in rows] == pytest.approx(want.tolist(), rel=1e-4)
            seen += 1
    assert seen


def test_rounds_go_on_with_the_next_tasks(ran):
    first, second = ({row["task"] for row in lines(ran / run / "generator")} for run in ("tango-1", "tango-2"))
    assert len(first | second) > len(first) == 6


def test_the_weights_of_the_classes_go_on(ran):
    """The averages of the last run, from what its runs noted in order: momentum .9 over steps of all of them."""
    average = {}
    for run in ("verifier", "tango-1/verifier", "tango-2/verifier"):
        rows = lines(ran / run)
        for step in sorted({row["step"] for row in rows}):
            found = [row["scores"]["outcome"] for row in rows if row["step"] == step]
            counts = {one: found.count(one) for one in set(found)}
            unit = len(found) / sum(math.sqrt(n) for n in counts.values())
            for one, n in counts.items():
                now = unit / math.sqrt(n)
                average[f"{one:g}"] = 0.9 * average.get(f"{one:g}", now) + 0.1 * now
    assert state(ran / "tango-2/verifier")["method"]["advantage"]["average"] == pytest.approx(average, rel=1e-6)
    assert len(average) == 2 and spread(list(average.values())) > 0
