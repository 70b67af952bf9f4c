"""eval: intervals over tasks, tags apart, a gate with its own error, equal numbers for equal seeds, JSON on disk."""

import json

import pytest

from rlpost.compare.statistics import per_task
from rlpost.config import build, compose
from rlpost.errors import ConfigError, GateError
from rlpost.metric.solved import avg_at_k, pass_at_k
from rlpost.run import evaluations
from rlpost.run.folder import RunFolder
from rlpost.run.tables import Interval, interval
from rlpost.trainers import evaluate
from rlpost.types import Prompt, Rollout, Task


def rollout(task, value, tags=()):
    return Rollout(
        task=Task(task, (), tags=tags), group=task, prompt=Prompt([]), tokens=[], trains=[], gen_logp=[], text="",
        stop="eos", scores={"correct": value},
    )  # fmt: skip


ROWS = [
    rollout("a", 1.0),
    rollout("a", 0.0),
    rollout("b", 0.0),
    rollout("b", 0.0),
    rollout("c", 1.0),
    rollout("c", 1.0),
]


def test_each_metric_has_its_mean_over_tasks_and_a_bootstrap_interval():
    found = evaluate.measure(ROWS, {"avg": avg_at_k, "pass": pass_at_k})
    # tasks a, b, c: avg 0.5, 0, 1; at least one of two right: 1, 0, 1
    assert found["avg@2"].per_task == {"a": 0.5, "b": 0.0, "c": 1.0}
    assert found["avg@2"].interval() == interval([0.5, 0.0, 1.0])
    assert found["pass@2"].interval().mean == pytest.approx(2 / 3)
    assert found["pass@2"].interval(["a", "b"]).mean == 0.5


def test_a_metric_that_is_no_mean_over_tasks_has_no_bounds():
    def best(rollouts):
        return {"best": max(r.scores["correct"] for r in rollouts)}

    found = evaluate.measure(ROWS, {"best": best})["best"].interval()
    assert found.mean == 1.0 and found.low != found.low and found.high != found.high


def test_tags_are_told_apart_and_a_tag_of_all_tasks_is_left_out():
    tasks = [Task("a", (), tags=("all", "x")), Task("b", (), tags=("all", "y")), Task("c", (), tags=("all", "x"))]
    shown = evaluate.by_tag(evaluate.measure(ROWS, {"avg": avg_at_k}), tasks)
    assert {tag: values["avg@2"].mean for tag, values in shown.items()} == {"x": 0.75, "y": 0.0}


def test_a_gate_that_is_not_met_is_its_own_error():
    shown = {"pass@8": Interval(0.4, 0.3, 0.5, 9)}
    evaluate.check_gate({"pass@8": 0.4}, shown)
    with pytest.raises(GateError, match=r"pass@8 is 0\.400, below 0\.41") as caught:
        evaluate.check_gate({"pass@8": 0.41}, shown)
    assert caught.value.exit_code == 9
    with pytest.raises(ConfigError, match="'pass@9', which was not measured; did you mean 'pass@8'"):
        evaluate.check_gate({"pass@9": 0.1}, shown)


def test_the_verb_writes_what_it_measured_and_repeats_itself(tmp_path):
    found = []
    for name in ("one", "two"):
        cfg = compose("eval", ["model=tiny", "debug=smoke", "rollout.max_tokens=3", f"run.dir={tmp_path / name}"])
        folder = RunFolder.create(cfg)
        result = evaluate.run(cfg, folder)
        written = json.loads((folder.path / "eval.json").read_text())
        assert written["metrics"] == result["metrics"] and len(written["per_task"]) == result["tasks"] == 4
        found.append([(line["task"], line["text"], line["reward"]) for line in folder.completions()])
        again = per_task(evaluations.load(folder.path, "eval"), ["correct"], 1.0, [2])
        listed = {line["task"]: line for line in written["per_task"]}
        assert all(listed[task][name] == value for task, values in again.items() for name, value in values.items())
        assert len(again) == 4
    assert found[0] == found[1] and len(found[0]) == 8
    cfg = compose("eval", ["model=tiny", "debug=smoke", "gate={pass@2:0.9}", f"run.dir={tmp_path / 'gate'}"])
    with pytest.raises(GateError):
        evaluate.run(cfg, RunFolder.create(cfg))
    assert (tmp_path / "gate" / "eval.json").is_file()


def test_the_weights_of_init_are_evaluated(tmp_path):
    model = build(compose("sft", ["model=tiny", "model.seed=5"]).tree["model"])().model
    model.save_pretrained(tmp_path / "saved")
    bundle, *_ = evaluate.prepare(compose("eval", ["model=tiny", "debug=smoke", f"init={tmp_path / 'saved'}"]))
    assert bundle.model.lm_head.weight.equal(model.lm_head.weight)


def test_every_round_asks_other_prompts_and_starts_over():
    tasks = list("abcde")
    assert [evaluate._round(tasks, 2, number) for number in range(4)] == [
        ["a", "b"],
        ["c", "d"],
        ["e", "a"],
        ["b", "c"],
    ]
    assert evaluate._round(tasks, 9, 1) == ["e", "a", "b", "c", "d"]
