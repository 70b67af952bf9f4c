import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from rlpost.app import app

QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def plan(*words):
    return CliRunner().invoke(app, ["plan", *words], prog_name="rlpost")


def facts(*words):
    done = plan(*words, "--json", "--samples", "8")
    return done, json.loads(done.stdout)


def test_a_fault_of_the_configuration_is_shown_before_torch_is_imported():
    code = (
        "import sys; sys.argv = ['rlpost', *sys.argv[1:]]; from rlpost.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    words = ["plan", "grpo", "sed=3", "trainer.per_device_train_batch_size=6"]
    line = [sys.executable, "-c", code, *words]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("2 faults in `rlpost plan grpo`:\n  unknown key 'sed'")
    assert "trainer.per_device_train_batch_size" in done.stdout  # the nearest values


def test_a_run_that_works_is_exit_0_with_every_section():
    done, found = facts("grpo", "model=tiny", "regularizer=[kl_k3]", "seed=4")
    assert done.exit_code == 0 and found["exit_code"] == 0
    assert {"configuration", "batch", "models", "tokens", "rewards", "memory"} <= set(found)
    seed = next(row for row in found["configuration"]["values"] if row["key"] == "seed")
    assert seed == {"key": "seed", "value": 4, "origin": "command line", "default": False}
    assert found["memory"]["second models"] == {"reference": 4 * 26880 + 32}
    shown = plan("grpo", "model=tiny", "--samples", "8")
    assert shown.exit_code == 0
    for words in ("Batch", "Models", "Tokens of 8 of 256 tasks", "What rewards say", "it fits"):
        assert words in shown.stdout


@pytest.mark.parametrize("command", ["sft", "dpo", "reward"])
def test_other_commands_say_what_does_not_apply(command):
    done, found = facts(command, "model=tiny")
    assert done.exit_code == 0, done.output
    assert any("cache" in sentence for sentence in found["does not apply"])
    assert ("rewards" in found) is (command != "reward")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["trainer.gradient_accumulation_steps=2", "trainer.steps_per_generation=3"], 2, "no whole number"),
        (["dataset=files", "dataset.path=/does/not/exist.jsonl"], 3, "/does/not/exist.jsonl"),
        (["model=hub", "model.path=/does/not/exist"], 4, "/does/not/exist"),
        (["reward.mine._target_=tests.plan.test_rewards.broken"], 5, "no such column"),
        (["--memory", "0.1"], 6, "the peak is estimated"),
    ],
)
def test_what_would_stop_the_run_has_its_exit_code(words, code, sentence):
    done = plan("grpo", "model=tiny", "--samples", "4", *words)
    assert done.exit_code == code, done.output
    assert sentence in done.stderr


def test_commands_that_do_not_train_have_no_plan():
    assert plan("eval").exit_code == 2
    assert plan("grpo", "--samples", "0").exit_code == 2
    assert plan("grpo", "--memory", "0").exit_code == 2


def test_a_pipeline_is_planned_stage_by_stage():
    done, found = facts("run", "pipeline=sft_then_grpo", 'pipeline.with=["model=tiny"]')
    assert done.exit_code == 0, done.output
    assert [(stage["stage"], stage["command"]) for stage in found["stages"]] == [("cold_start", "sft"), ("rl", "grpo")]


def test_brackets_are_printed_as_they_are_and_no_limit_is_below_zero():
    done = plan("grpo", "model=tiny", "--samples", "2", "dataset.operators=[+]", "rollout.max_tokens=9000")
    assert "['+']" in done.stdout and "\\[" not in done.stdout
    assert "leave no room" in done.stdout and " -" not in done.stdout
