"""Pipelines: order, inheritance, references, resume at the stage, and what is refused before anything runs."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rlpost import pipeline
from rlpost.config import Config
from rlpost.errors import ConfigError, DataError, Interrupted
from rlpost.run import checkpoint, files, summary
from rlpost.run.folder import RunFolder


class Runner:
    """A stand-in that notes what it is asked to run and answers with numbers that depend on it."""

    def __init__(self, fail_at: str = "", error: Exception | None = None):
        self.calls, self.fail_at, self.error = [], fail_at, error

    def __call__(self, verb: str, overrides: list[str], folder: Path) -> dict:
        if self.fail_at and str(folder).endswith(self.fail_at):
            raise self.error or RuntimeError("stopped")
        self.calls.append((verb, overrides, folder))
        seed = next((int(text[5:]) for text in reversed(overrides) if text.startswith("seed=")), 0)
        bonus = 0.1 if "bonus=on" in overrides else 0.0
        return {
            "objective": seed / 10 + bonus,
            "minutes": 2.5,
            "held_out": {"after": [0.5 + bonus * seed, 0.4, 0.6, 9]},
        }


def config(tmp_path, tree: dict, **more) -> Config:
    base = {"seed": 0, "run": {"dir": str(tmp_path / "p")}, "pipeline": tree}
    return Config("run", base, {}, more.get("picks", {}), [])


def labels(tree: dict) -> list[str]:
    return [stage.label for stage in pipeline.plan(tree)]


def faults(tree: dict) -> str:
    with pytest.raises(ConfigError) as caught:
        pipeline.plan(tree)
    return "\n".join(caught.value.faults)


LINE = {
    "with": ["model=tiny"],
    "stages": [
        {"name": "before", "run": "eval"},
        {"name": "sft", "run": "sft", "with": ["trainer.max_steps=4"]},
        {"name": "rl", "run": "grpo", "init": "sft", "with": ["model=video_tiny", "limit=<sft.minutes>"]},
        {"name": "after", "run": "eval", "init": "rl"},
    ],
}


def test_stages_run_in_order_with_what_they_inherit(tmp_path):
    cfg = config(tmp_path, LINE, picks={"debug": ["smoke"]})
    folder, runner = RunFolder.create(cfg), Runner()
    result = pipeline.run(cfg, folder, runner)
    root = folder.path
    shared = ["seed=0", "debug=smoke"]
    assert runner.calls == [
        ("eval", [*shared, "model=tiny"], root / "before"),
        ("sft", [*shared, "model=tiny", "trainer.max_steps=4"], root / "sft"),
        ("grpo", [*shared, "model=video_tiny", "limit=2.5", f"init='{root / 'sft' / 'model'}'"], root / "rl"),
        ("eval", [*shared, "model=tiny", f"init='{root / 'rl' / 'model'}'"], root / "after"),
    ]
    assert result["minutes"] == 10.0
    assert result["objective"] == 0.0
    saved = json.loads((root / "summary.json").read_text())
    assert [stage["status"] for stage in saved["stages"]] == ["ok"] * 4
    page = folder.report().read_text()
    assert 'href="rl/report.html"' in page


def test_stages_know_the_options_of_the_users_own_folder(tmp_path):
    own = ["hydra.searchpath=[file:///mine]", "pipeline=small"]
    cfg = Config("run", {"seed": 4}, {}, {"debug": ["none"]}, own)
    assert pipeline.common(cfg) == ["hydra.searchpath=[file:///mine]", "seed=4", "debug=none"]


def test_a_pipeline_continues_at_the_stage_that_stopped(tmp_path):
    cfg = config(tmp_path, LINE)
    folder = RunFolder.create(cfg)
    first = Runner(fail_at="rl")
    with pytest.raises(RuntimeError, match="stopped"):
        pipeline.run(cfg, folder, first)
    assert len(first.calls) == 2
    waiting = json.loads((folder.path / "summary.json").read_text())["stages"]
    assert [stage["status"] for stage in waiting] == ["ok", "ok", "waiting", "waiting"]
    second = Runner()
    result = pipeline.run(cfg, RunFolder.open(folder.path, cfg), second)
    assert [call[2].name for call in second.calls] == ["rl", "after"]
    assert "limit=2.5" in second.calls[0][1]
    assert result["minutes"] == 10.0


def test_a_finished_stage_with_other_settings_is_not_taken_for_this_one(tmp_path):
    folder = RunFolder.create(config(tmp_path, LINE))
    pipeline.run(config(tmp_path, LINE), folder, Runner())
    other = {**LINE, "with": ["model=smollm2"]}
    with pytest.raises(ConfigError, match=r"before, sft, after .* ran with other settings"):
        pipeline.run(config(tmp_path, other), folder, Runner())


def test_errors_name_the_stage_and_how_to_go_on(tmp_path):
    cfg = config(tmp_path, LINE)
    folder = RunFolder.create(cfg)
    with pytest.raises(Interrupted, match=r"stage sft: saved\. The pipeline continues with resume=") as caught:
        pipeline.run(cfg, folder, Runner(fail_at="sft", error=Interrupted("saved.")))
    assert caught.value.exit_code == 130
    with pytest.raises(ConfigError) as caught:
        pipeline.run(cfg, folder, Runner(fail_at="sft", error=ConfigError(["a", "b"])))
    assert caught.value.faults == ["stage sft: a", "stage sft: b"]
    with pytest.raises(DataError, match="stage sft: bad"):
        pipeline.run(cfg, folder, Runner(fail_at="sft", error=DataError("bad.")))


def test_every_fault_is_found_before_anything_runs():
    text = faults(
        {
            "stagez": [],
            "stages": [
                {"name": "a", "run": "sftt"},
                {"name": "b", "run": "sft", "init": "bb", "kep": 1},
                {"name": "c", "run": "sft", "keep": ["optimiser"], "data": {"from": "b"}},
                {"name": "d", "run": "sft", "times": 0},
                {"name": "e"},
                {"name": "f", "run": "sft", "with": "x=1", "each": {"seed": 3}},
                "g",
                {"name": "h/i", "run": "sft"},
                {"name": "j", "run": "reward", "with": ["x=<k.minutes>"]},
                {"name": "j", "run": "eval"},
                {"name": "l", "run": "eval", "with": {"trainn": ["x=1"]}},
                {"name": "m", "run": "sft", "init": "l"},
                {"name": "n", "run": "sft", "init": "never"},
                {"name": "c1", "run": "sft", "models.verifier": "bb"},
                {
                    "name": "c2",
                    "run": "dpo",
                    "models.reference": "l",
                    "data": {"from": ["j"], "build": "best_of_group"},
                },
                {"name": "c3", "run": "reward", "models.reference": "n"},
                {"name": "c7", "run": "sft", "init": 7},
                {"name": "c4", "run": "eval", "keep": ["optimizer"], "data": {"from": "b", "build": "best_of_group"}},
                {"name": "c5", "stages": [{"name": "c6", "run": "eval"}], "models.judge": "b"},
                {"name": "o", "times": 2, "stages": [{"name": "q", "run": "sft", "each": {"seed": [1]}}]},
            ],
            "table": [{"title": "t", "columns": {"a": "b"}, "rows": {"r": "zz", "s": ["j", "j", "j"]}}, {"title": 1}],
        }
    )
    for part in (
        "unknown key pipeline.stagez; did you mean 'stages'?",
        "stage a: run='sftt' is no verb; there are sft, grpo, dpo, reward, eval, sample",
        "stage b: unknown key 'kep'",
        "stage c: keep must be [optimizer], not ['optimiser']",
        "stage c: data must be {from: <stage or list of them>, build: <name>}, not {'from': 'b'}",
        "stage c1: models.verifier=bb is no earlier stage",
        "stage c2: models.reference=l is `eval`, which saves no model",
        "stage c2: data.from=j is `reward`, which writes no completions",
        "stage c3: models.reference: `reward` has no reference; sft, grpo, dpo have",
        "stage c7: init=7 must be the name of a stage",
        "stage c4: data is built for a stage that trains, not for `eval`",
        "stage c4: keep: [optimizer] belongs to a stage that trains, not to `eval`",
        "stage c5: stages must be a list of stages, and models.judge belongs to one of them",
        "stage d: times must be a whole number from 1, not 0",
        "stage e must have either run: <verb> or stages: [...]",
        "stage f: each must map keys",
        "stage 6 must be a mapping",
        "not 'h/i'",
        "stage j: <k. ...> in an override is no earlier stage",
        "stage j: there are two stages of this name",
        "stage l: with.trainn is no verb",
        "stage m: init=l is `eval`, which saves no model",
        "stage n: init=never is no earlier stage",
        "stage o-1/q: each stands outside of times",
        "pipeline.table.0.rows.r: there is no stage 'zz'",
        "pipeline.table.0.rows.s must be a stage",
        "pipeline.table.1 must have title, columns and rows",
    ):
        assert part in text, part
    assert "no stages" in faults({})
    assert "not 'x=1'" in faults({"stages": [{"name": "f", "run": "sft", "with": "x=1"}]})


def test_the_configuration_of_every_stage_is_checked_before_the_first_runs(tmp_path):
    tree = {
        "stages": [
            {"name": "sft", "run": "sft", "with": ["model=tiny", "trainer.max_stepz=1"]},
            {"name": "rl", "run": "grpo", "with": ["modle=tiny"]},
        ]
    }
    cfg = config(tmp_path, tree)
    found = "\n".join(pipeline.faults(cfg))
    assert "stage sft: " in found
    assert "did you mean 'max_steps'?" in found
    assert "stage rl: " in found
    assert pipeline.faults(config(tmp_path, {"stages": []}))
    with pytest.raises(ConfigError, match="stage rl"):
        pipeline.run(cfg, RunFolder.create(cfg))
    assert not (tmp_path / "p" / "sft").exists()


def test_a_stage_without_a_checkpoint_starts_anew_and_what_it_left_is_put_aside(tmp_path):
    place = tmp_path / "sft"
    assert not pipeline._resumable(place)
    place.mkdir()
    files.write(place / "config.yaml", "seed: 0\n")
    files.write(place / "metrics.jsonl", "{}\n")
    assert not pipeline._resumable(place)
    assert (tmp_path / "sft.stopped-1" / "metrics.jsonl").exists()
    place.mkdir()
    files.write(place / "config.yaml", "seed: 0\n")
    with checkpoint.atomic_folder(place / "checkpoints" / "step-000002") as partial:
        (partial / "x").write_text("x")
    assert pipeline._resumable(place)


MOVED = ["trainer.learning_rate=0.01", "trainer.weight_decay=0.5"]  # moves the weights even without any reward
STILL = ["run.report=false", "trainer.learning_rate=0.0"]  # without steps of its own it ends as it began


def test_stages_train_for_real_and_a_later_one_starts_from_the_earlier_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tree = {
        "with": ["model=tiny", "debug=smoke", "evaluation.tasks=0"],
        "stages": [
            {"name": "first", "run": "grpo", "with": MOVED},
            {"name": "second", "run": "grpo", "init": "first", "each": {"seed": [1]}, "with": STILL},
        ],
    }
    cfg = config(tmp_path / "a, b=c's", tree)
    folder = RunFolder.create(cfg)
    result = pipeline.run(cfg, folder)
    second = folder.path / "second-seed-1"
    assert yaml.safe_load((second / "config.yaml").read_text())["init"] == str(folder.path / "first" / "model")
    assert (folder.path / "first" / "report.html").exists()
    assert not (second / "report.html").exists()
    assert RunFolder.open(second).outcome()["steps"] == 2
    began, ended = (load_file(place / "model" / "model.safetensors") for place in (folder.path / "first", second))
    assert all(torch.equal(began[name], ended[name]) for name in began)
    assert result["minutes"] > 0
    again = pipeline.run(cfg, RunFolder.open(folder.path, cfg))
    assert again == result


def test_lookup():
    result = {"held_out": {"after": {"mean": 0.5, "low": 0.1, "high": 0.9}}, "pass@1": [0.25, 0, 1], "ok": True}
    assert summary.lookup(result, "held_out.after") == 0.5
    assert summary.lookup(result, "held_out.after.low") == 0.1
    assert summary.lookup(result, "pass@1") == 0.25
    assert summary.lookup(result, "ok") is None
    assert summary.lookup(result, "held_out.x.y") is None


def test_a_debug_option_beats_the_numbers_of_a_stage():
    found = pipeline.debugged("sft", ["trainer.max_steps=20", "debug=smoke"])
    assert found[:2] == ["trainer.max_steps=20", "debug=smoke"] and "trainer.max_steps=2" in found[2:]
    assert pipeline.debugged("sft", ["trainer.max_steps=20", "debug=none"]) == ["trainer.max_steps=20", "debug=none"]
