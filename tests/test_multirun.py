import json
import shutil
import subprocess
from pathlib import Path

import pytest

from rlpost import multirun
from rlpost.errors import ConfigError
from rlpost.sweep import sweep_plan
from tests import forked

TINY = ["model=tiny", "debug=smoke", "trainer.max_steps=1", "evaluation.tasks=2", "run.report=false"]


def rlpost(folder: Path, *words: str, by: str = forked.SWEEPING) -> subprocess.CompletedProcess[str]:
    line = ["grpo", "-m", *TINY, f"hydra.sweep.dir={folder}", *words]
    return forked.run(by, *line, env={"COLUMNS": "200"})


def test_plan_forces_values_and_leaves_picks_to_hydra():
    plan = sweep_plan("grpo", ["recipe=gspo,dapo", "seed=1,2", "trainer.warmup_steps=3", "hydra.sweep.dir=/tmp/x"])
    assert plan.overrides == ["recipe=gspo,dapo", "++seed=1,2", "++trainer.warmup_steps=3", "hydra.sweep.dir=/tmp/x"]
    assert plan.swept == ["recipe", "seed"]
    assert plan.folder == "/tmp/x"


def test_plan_judges_every_value_before_the_first_job():
    with pytest.raises(ConfigError) as caught:
        sweep_plan("grpo", ["recipe=gspo,dap", "seed=1,a", "trainer.foo=1,2", "objective.clip_low=interval(0.1,0.2)"])
    text = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 3
    for word in ("unknown recipe 'dap'", "seed: must be a whole number", "trainer.foo"):
        assert word in text
    with pytest.raises(ConfigError, match="cannot be swept"):
        sweep_plan("grpo", ["resume=x", "seed=1,2"])


def test_optuna_maximises_unless_told_otherwise():
    assert "hydra.sweeper.direction=maximize" in multirun._defaults(["hydra/sweeper=optuna"])
    told = ["hydra/sweeper=optuna", "hydra.sweeper.direction=minimize"]
    assert multirun._defaults(told) == ["hydra/job_logging=none"]


def test_missing_plugin_is_a_sentence(monkeypatch):
    monkeypatch.setitem(multirun.PLUGINS, "optuna", "hydra_not_here")
    with pytest.raises(ConfigError, match=r"pip install 'rlpost\[sweeps\]'"):
        multirun._defaults(["hydra/sweeper=optuna"])


def test_outcomes_are_in_order_and_count_unfinished_jobs(tmp_path):
    for number, facts in [
        (10, {"status": "ok", "objective": 0.5}),
        (2, {"status": "error", "exit_code": 5}),
        (3, None),
    ]:
        place = tmp_path / str(number)
        place.mkdir()
        (place / "overrides.txt").write_text(f"seed={number}\n", encoding="utf-8")
        if facts:
            (place / "done.json").write_text(json.dumps(facts), encoding="utf-8")
    jobs = multirun.outcomes(tmp_path)
    assert [(job["job"], job["status"]) for job in jobs] == [("2", "error"), ("3", "not finished"), ("10", "ok")]
    with pytest.raises(Exception, match="2 of 3 jobs failed") as caught:
        multirun._raise_first(jobs, 1, tmp_path)
    assert caught.value.exit_code == 5


def test_a_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """A job that ended well is left alone, one that was killed is continued, one that never began begins."""
    words, killed, done = ["seed=1", *TINY], tmp_path / "0", tmp_path / "1"
    objective = multirun.run_job("grpo", words, done)
    multirun.run_job("grpo", words, killed)
    (killed / "done.json").unlink()
    shutil.rmtree(killed / "model")
    assert multirun.run_job("grpo", words, killed) == objective
    assert (killed / "model").is_dir() and (killed / "done.json").is_file()
    young = tmp_path / "2"
    young.mkdir()
    (young / "config.yaml").write_text("# rlpost grpo: every value\na: 1\n")
    asked = []
    monkeypatch.setattr("rlpost.execute.execute", lambda command, given: asked.append(given) or {"objective": 1.0})
    assert multirun.run_job("grpo", words, done) == objective and asked == []
    assert multirun.run_job("grpo", words, young) == 1.0 and asked == [[*words, f"run.dir='{young}'"]]
    with pytest.raises(multirun.JobFailed, match=r"holds a job with other values .*hydra.sweep.dir"):
        multirun.run_job("grpo", ["seed=2", *TINY], done)
    assert len(asked) == 1
    for number, (name, text) in enumerate([("config.yaml", "mine: 1\n"), ("notes.txt", "mine")], start=3):
        other = tmp_path / str(number)
        other.mkdir()
        (other / "overrides.txt").write_text("".join(f"{word}\n" for word in words))
        (other / name).write_text(text)
        multirun._before(other, words)
        assert (other / name).read_text() == text, "a file that no run wrote is not taken away"


@pytest.mark.slow
def test_a_failed_job_does_not_hide_the_others(tmp_path):
    """Six rows are no whole groups of four: that job fails, the other three run and are reported."""
    done = rlpost(tmp_path, "rollout.num_generations=2,4", "trainer.per_device_train_batch_size=4,6")
    assert done.returncode == 2, done.stdout + done.stderr
    status = [json.loads((tmp_path / str(job) / "done.json").read_text())["status"] for job in range(4)]
    assert status == ["ok", "ok", "ok", "error"]
    assert "job 3: the batch does not hold whole groups" in done.stdout
    assert "1 of 4 jobs failed" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_joblib_launcher(tmp_path):
    """The sweep that is started as users start it: a process for the sweep, one for each job."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    done = rlpost(tmp_path, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", by="rlpost")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [job["status"] for job in multirun.outcomes(tmp_path)] == ["ok", "ok"]


@pytest.mark.slow
def test_optuna_sweeper(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    trials = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
    done = rlpost(tmp_path, *trials, "trainer.learning_rate=interval(1e-6,1e-4)")
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = multirun.outcomes(tmp_path)
    rates = [dict(text.partition("=")[::2] for text in job["overrides"])["trainer.learning_rate"] for job in jobs]
    assert len(set(rates)) == 2
    assert all(1e-6 <= float(rate) <= 1e-4 for rate in rates)
    assert all(isinstance(job["objective"], float) for job in jobs)
