import json
import math

import pytest
from typer.testing import CliRunner

from rlpost.app import app
from rlpost.config import compose
from rlpost.errors import ConfigError
from rlpost.nodes import build
from rlpost.plan import probe, show


def test_time_by_hand():
    """Steps end at 10, 12, 15 and 16 s: 2, 3 and 1 s, mean 2, deviation 1; 1800 steps are an hour."""
    found = probe.timed([10, 12, 15, 16], cycle=1, steps=1800)
    assert found["seconds per step"] == [2, 3, 1]
    assert found["mean"] == 2 and found["hours"] == 1
    assert found["standard error"] == pytest.approx(1 / math.sqrt(3))
    assert found["hours high"] - found["hours"] == pytest.approx(2 * 1800 / math.sqrt(3) / 3600)


def test_a_time_below_an_hour_is_told_in_minutes():
    facts = {"hours": 0.05, "hours low": 0.04, "hours high": 0.06}
    assert show._whole(facts) == ["minutes, ± 2 standard errors", "3.00 [2.40, 3.60]"]
    assert show._whole({**facts, "hours": 1.0})[0].startswith("hours")


def test_steps_that_share_rollouts_are_timed_together():
    """Generations end at 10, 18 and 30 s, each after two steps: 4 and 6 s a step."""
    assert probe.timed([7, 10, 15, 18, 28, 30], cycle=2, steps=1)["seconds per step"] == [4, 6]


def test_the_probe_is_the_run_on_chosen_tasks(tmp_path):
    cfg = compose("grpo", ["model=tiny"])
    small = probe.shortened(cfg.tree, [5, 2], 4, tmp_path)
    tasks = build(cfg.tree["dataset"])("train")
    assert build(small["dataset"])("train") == [tasks[5], tasks[2]]
    assert small["trainer"]["max_steps"] == 4 and small["evaluation"]["tasks"] == 0
    assert small["rollout"] == cfg.tree["rollout"]


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ConfigError, match="launch=local"):
        probe.probe(compose("grpo", ["model=tiny", "launch=torchrun"]), [0], 1)


def test_real_steps():
    words = ["plan", "grpo", "model=tiny", "debug=smoke", "--samples", "8", "--probe", "--json"]
    done = CliRunner().invoke(app, words, prog_name="rlpost")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["time"]
    assert len(found["seconds per step"]) == 3 and all(s > 0 for s in found["seconds per step"])
    assert found["steps"] == 2
    assert found["peak"] > 2**27  # torch alone is more
