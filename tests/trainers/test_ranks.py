"""Given the same rollouts, weights depend neither on the cut into micro-batches or ranks, nor on a restart."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import forked

COMMON = [
    "trainer.max_steps=2",
    "trainer.learning_rate=0.05",
    "+trainer.optim=sgd",
    "trainer.max_grad_norm=0.0",
    "trainer.save_steps=1",
    "rollout.num_generations=4",
]
SCRIPT = str(forked.ROOT / "tests/trainers/two_ranks.py")


def train(folder: Path, *overrides: str, ranks: int = 1, torchrun: bool = False) -> dict[str, torch.Tensor]:
    """Final weights of a run in a process of its own, or in `ranks` processes (gloo), if wanted under torchrun."""
    arguments = [SCRIPT, str(folder), *COMMON, *overrides]
    if torchrun:
        line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        own = {"PYTHONPATH": str(forked.ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run([*line, *arguments], capture_output=True, text=True, env={**os.environ, **own})
    else:
        done = forked.run(*arguments, ranks=ranks)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "model" / "model.safetensors")


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).detach().abs().max()) for name in a)


@pytest.mark.parametrize("recipe", ["grpo", "dapo", "gspo"])
def test_one_process_equals_micro_batches_and_two_ranks(recipe, tmp_path):
    whole = train(tmp_path / "a", f"recipe={recipe}", "trainer.per_device_train_batch_size=16")
    cut = train(
        tmp_path / "b",
        f"recipe={recipe}",
        "trainer.per_device_train_batch_size=8",
        "trainer.gradient_accumulation_steps=2",
    )
    ranks = train(tmp_path / "c", f"recipe={recipe}", "trainer.per_device_train_batch_size=8", ranks=2)
    start = train(
        tmp_path / "d", f"recipe={recipe}", "trainer.per_device_train_batch_size=16", "trainer.learning_rate=0.0"
    )
    assert apart(whole, start) > 1e-3
    assert apart(whole, cut) < 1e-6
    assert apart(whole, ranks) < 1e-6


def test_metrics_of_two_ranks_are_those_of_all_rows(tmp_path):
    train(tmp_path / "a", "trainer.per_device_train_batch_size=16")
    train(tmp_path / "b", "trainer.per_device_train_batch_size=8", ranks=2, torchrun=True)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in "ab"
    )
    for name in ("reward", "reward/uneven", "length", "entropy", "objective/loss"):
        assert one[0][name] == pytest.approx(two[0][name], abs=1e-5), name


MOVING = ["reference=moving_average", "reference.decay=0.5", "reference.every=1", "regularizer=[kl_k3]"]


@pytest.mark.parametrize(
    "extra",
    [[], ["trainer.num_iterations=2"], ["+trainer.steps_per_generation=2"], [*MOVING, "trainer.num_iterations=2"]],
)
def test_a_resumed_run_is_bit_equal(extra, tmp_path):
    common = ["trainer.per_device_train_batch_size=8", "curriculum=dump", "trainer.max_steps=5", *extra]
    whole = train(tmp_path / "a", *common)
    train(tmp_path / "c", *common, "trainer.max_steps=3")
    shutil.rmtree(tmp_path / "c" / "model")
    resumed = train(tmp_path / "c", *common, f"resume={tmp_path / 'c'}")
    assert apart(whole, resumed) == 0.0
    keep = ("loss", "reward", "grad_norm", "entropy")
    assert [[r.get(k) for k in keep] for r in lines(tmp_path / "a")] == [
        [r.get(k) for k in keep] for r in lines(tmp_path / "c")
    ]


def lines(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if "reward" in r]


def test_a_run_that_was_killed_after_its_last_step_ends_as_it_would_have(tmp_path):
    """No step is left, at whose beginning the state would be loaded: the mean loss and the ledger come from it."""
    common = ["trainer.per_device_train_batch_size=8", "rollout.num_generations=8"]
    train(tmp_path, *common)
    records = (tmp_path / "metrics.jsonl").read_text().splitlines()
    ended = json.loads(records[-1])
    assert ended["train_loss"] != 0
    shutil.rmtree(tmp_path / "model")
    train(tmp_path, *common, f"resume={tmp_path}")
    again = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(again) == len(records) and json.loads(again[-1])["train_loss"] == ended["train_loss"]
