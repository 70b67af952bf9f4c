"""The run folder: what is written, what is refused, what never enters."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlpost import ledger
from rlpost.config import Config, compose
from rlpost.errors import ConfigError, Interrupted, RlpostError
from rlpost.run.folder import RunFolder, annotated


def config(
    tree: dict[str, Any],
    origin: dict[str, str] | None = None,
    picks: dict[str, list[str]] | None = None,
    overrides: list[str] | None = None,
) -> Config:
    return Config("grpo", tree, origin or {}, picks or {}, overrides or [])


def cfg(place: Path | None, **tree: Any) -> Config:
    return config(tree={"seed": 3, "run": {"dir": str(place) if place else None, "name": None}, **tree})


def test_a_new_folder_holds_configuration_overrides_and_environment(tmp_path):
    run = config(
        tree={"seed": 3, "run": {"dir": str(tmp_path / "a")}, "trainer": {"lr": 1e-5, "betas": [0.9, 0.95]}},
        origin={"seed": "grpo.yaml", "trainer": "recipe dapo", "trainer.lr": "command line"},
        overrides=["trainer.lr=1e-5"],
    )
    folder = RunFolder.create(run)
    text = (folder.path / "config.yaml").read_text()
    assert yaml.safe_load(text) == run.tree
    assert "  lr: 1.0e-05  # command line" in text.splitlines()
    assert "  betas: [0.9, 0.95]  # recipe dapo" in text.splitlines()
    assert (folder.path / "overrides.txt").read_text() == "trainer.lr=1e-5\n"
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["seed"] == 3
    assert environment["versions"]["numpy"]
    assert len(environment["git"]["commit"]) == 40
    folder.note(data={"fingerprint": "abc"})
    folder.note(parameters=12)
    environment = json.loads((folder.path / "environment.json").read_text())
    assert (environment["data"], environment["parameters"], environment["seed"]) == ({"fingerprint": "abc"}, 12, 3)


def test_odd_values_survive_the_yaml(tmp_path):
    tree = {
        "a": {},
        "b": [],
        "c": None,
        "d": "two\nlines # x",
        "e": {"1": "yes", "f": [{"g": 1.5}]},
        "h: i": "x",
    }
    assert yaml.safe_load(annotated(tree, {"d": "a\nb", "e": "f.yaml"})) == tree


def test_the_default_name_says_command_recipe_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = config(tree={"run": {"dir": None, "name": None}}, picks={"recipe": ["gdpo", "dump"]})
    first, second = RunFolder.create(run), RunFolder.create(run)
    assert first.path.name.startswith("grpo-gdpo-dump-2")
    assert first.path != second.path
    named = RunFolder.create(config(tree={"run": {"name": "my run/1"}}))
    assert named.path.parent == Path("runs")
    assert named.path.name.startswith("grpo-my-run-1-2")


def test_a_folder_with_files_is_refused_and_stays_as_it_was(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"exists and is not empty.*another run.dir.*resume=") as caught:
        RunFolder.create(cfg(tmp_path))
    assert caught.value.exit_code == 2
    assert [place.name for place in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    assert RunFolder.create(cfg(tmp_path / "empty")).path == tmp_path / "empty"
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder.create(cfg(tmp_path / "thesis.txt"))
    with pytest.raises(ConfigError, match="cannot be made"):
        RunFolder.create(cfg(tmp_path / "thesis.txt" / "below"))


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOENT, errno.EACCES])
def test_a_folder_that_cannot_be_made_is_a_sentence(code, tmp_path, monkeypatch):
    def refuses(*_, **__):
        raise OSError(code, os.strerror(code))

    run = cfg(tmp_path / "new")
    monkeypatch.setattr(Path, "mkdir", refuses)
    with pytest.raises(ConfigError, match=rf"new cannot be made \({os.strerror(code)}\).*another run.dir"):
        RunFolder.create(run)


def test_secrets_never_enter(tmp_path):
    run = config(
        tree={
            "run": {"dir": str(tmp_path / "s")},
            "logger": {"api_key": "abc123", "url": "https://bob:pw1@host/x?token=tk9&q=1", "hf_token": "hunter2"},
            "rollout": {"max_tokens": 64, "stop_token": "<|im_end|>"},
            "judge": {"headers": ["Bearer abcdefgh12345678"], "password": "pw2"},
            "note": "key hf_abcdefghijklmnopqrstu",
        },
        origin={"logger.api_key": "logger.api_key=abc123 on the command line"},
        overrides=["logger.api_key=abc123", "rollout.max_tokens=64", "judge={password: pw2, x: 1}"],
    )
    folder = RunFolder.create(run)
    folder.note(server={"secret_key": "s3cr3t"})
    folder.done(RlpostError("cannot reach https://bob:pw1@host"))
    written = "".join(place.read_text() for place in folder.path.iterdir() if place.is_file())
    for secret in ("abc123", "bob", "pw1", "tk9", "hunter2", "abcdefgh12345678", "pw2", "hf_abc", "s3cr3t"):
        assert secret not in written, secret
    saved = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert saved["rollout"] == {"max_tokens": 64, "stop_token": "<|im_end|>"}
    assert saved["logger"]["url"] == "https://***@host/x?token=***&q=1"
    assert "rollout.max_tokens=64\n" in (folder.path / "overrides.txt").read_text()


def test_metrics_and_rollouts_are_lines_of_strict_json(tmp_path):
    folder = RunFolder.create(cfg(tmp_path / "m"))
    folder.log({"step": 1, "reward": math.nan, "kl": math.inf})
    folder.log({"step": 1, "phase": "eval", "acc": 0.25})
    folder.rollouts([{"step": 1, "text": "a\u2028b\ud800", "scores": {"correct": None}}])
    records = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert records[0] == {"step": 1, "phase": "train", "time": records[0]["time"], "reward": None, "kl": None}
    assert records[1]["phase"] == "eval"
    assert "NaN" not in (folder.path / "metrics.jsonl").read_text()
    assert folder.completions()[0]["text"] == "a\u2028b\ud800"


def test_resume_cuts_a_torn_line_and_forgets_later_steps(tmp_path):
    folder = RunFolder.create(cfg(tmp_path / "r"))
    for step in range(1, 5):
        folder.log({"step": step, "reward": step / 10, "time": 100.0 * step})
        folder.rollouts([{"step": step, "text": "x"}, {"step": step, "text": "y"}])
    folder.log({"step": 2, "train_loss": 0.5})  # the end of a run that stopped there
    with (folder.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 5, "rew')
    again = RunFolder.open(folder.path)
    again.rewind(2)
    again.log({"step": 3, "reward": 0.9})
    assert [(record["step"], record["reward"]) for record in again.metrics()] == [(1, 0.1), (2, 0.2), (3, 0.9)]
    assert len(again.completions()) == 4
    assert again.metrics()[-1]["time"] >= 400.0
    with pytest.raises(ConfigError, match="no run folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(ConfigError, match="not a run folder"):
        RunFolder.open(tmp_path)


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    folder = RunFolder.create(cfg(tmp_path / "d"))
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(RlpostError, match=r"metrics.jsonl line 2 is not JSON"):
        folder.metrics()


def test_done_says_how_it_ended(tmp_path):
    folder = RunFolder.create(cfg(tmp_path / "o"))
    assert folder.outcome() is None
    folder.done({"objective": 0.5, "curve": [math.nan, 1.0]})
    assert folder.outcome() == {"status": "ok", "objective": 0.5, "curve": [None, 1.0]}
    folder.done(ConfigError(["a", "b"]))
    assert folder.outcome() == {"status": "error", "kind": "ConfigError", "message": "a\nb", "exit_code": 2}
    folder.done(Interrupted("stopped at step 7"))
    assert (folder.outcome()["status"], folder.outcome()["exit_code"]) == ("interrupted", 130)
    folder.done(KeyboardInterrupt())
    assert (folder.outcome()["status"], folder.outcome()["exit_code"]) == ("interrupted", 130)
    folder.done(ZeroDivisionError("x"))
    assert (folder.outcome()["status"], folder.outcome()["exit_code"]) == ("error", 1)


def test_what_could_not_be_used_is_saved_at_the_end(tmp_path):
    folder = RunFolder.create(cfg(tmp_path / "l"))
    ledger.reset()
    folder.done({})
    assert not (folder.path / "ledger.json").exists()
    for row in range(7):
        ledger.current().drop("no answer", f"line {row}")
    folder.done({})
    assert json.loads((folder.path / "ledger.json").read_text())[0]["count"] == 7
    ledger.reset()


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder = RunFolder.create(cfg(tmp_path / "p"))
    folder.log({"step": 1})
    folder.rollouts([{"step": 1}])
    folder.note(a=1)
    folder.done({})
    folder.save_config(folder.cfg)
    assert not (tmp_path / "p").exists()
    with pytest.raises(ConfigError, match=r"run\.dir"):
        RunFolder.create(cfg(None))


def test_a_full_disk_is_a_sentence_that_says_what_is_safe(tmp_path, monkeypatch):
    folder = RunFolder.create(cfg(tmp_path / "f"))
    folder.log({"step": 1})
    before = (folder.path / "environment.json").read_text()
    opened = Path.open

    def full(self, *args, **kwargs):
        if (args or ["r"])[0] != "r":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RlpostError, match=r"disk is full: .*metrics.jsonl could not.*there is no checkpoint"):
        folder.log({"step": 2})
    with pytest.raises(RlpostError, match=r"environment.json"):
        folder.note(x=1)
    monkeypatch.undo()
    assert (folder.path / "environment.json").read_text() == before
    assert len(folder.metrics()) == 1


def test_a_secret_among_the_values_leaves_yaml_that_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_API_KEY", "supersecret123")
    place = tmp_path / "r"
    RunFolder.create(compose("grpo", [f"run.dir={place}", "run.name=supersecret123"])).release()
    told = (place / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(told)["run"]["name"] == "***" and "supersecret123" not in told
