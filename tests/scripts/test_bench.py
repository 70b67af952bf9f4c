"""The harness of `make bench`: what fails a run, what is only reported, and that its comparisons can see a mistake."""

import importlib.util
import json
import math
import os
from pathlib import Path

import pytest
import torch

from rlpost.likelihood.scoring import teach
from scripts.bench import goals, gpu, models, record, sharing, table, whole
from scripts.bench.record import Case, Goal, NotMeasured

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_command", ROOT / "scripts" / "bench.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case(name="a", error=0.1, ours=10.0, theirs=40.0, target=3.0, stretch=5.0):
    return Case(name, error, 0.5, target, stretch, ours, theirs, 1.1, "note")


def goal(*cases, kind="ratio"):
    return Goal("title", kind, lambda repeats: list(cases))


def test_every_goal_has_a_measurement():
    assert list(goals.GOALS) == [f"C{i}" for i in range(1, 11)]
    assert list(gpu.GOALS) == [f"H{i}" for i in range(1, 11)]


def test_a_goal_is_as_good_as_its_worst_case_and_as_wrong_as_its_most_wrong():
    one = goal()
    # 4 of 3 and 2 of 3 are 1.33 and 0.67 of the target.
    found = one.record([case("good", error=0.4), case("bad", ours=20.0)])
    assert (found["case"], found["ratio"], found["met"], found["max_error"]) == ("bad", 2.0, False, 0.4)
    assert list(found["cases"]) == ["good", "bad"] and found["cases"]["good"]["value"] == 4.0
    assert {"ratio", "target", "stretch", "max_error", "ours_ms", "theirs_ms", "spread"} <= found.keys()
    assert math.isnan(one.record([case("good"), case("blind", error=math.nan), case()])["max_error"])


def test_less_is_better_for_times_and_errors():
    assert goal(kind="ms").share(case(ours=2.0, target=3.0)) == 1.5
    assert goal(kind="error").share(case(error=0.1, target=0.05)) == 0.5


@pytest.mark.parametrize(("error", "code"), [(0.5, 0), (0.51, 8), (math.nan, 8), (math.inf, 8)])
def test_only_a_wrong_answer_fails(bench, error, code, tmp_path, capsys):
    place = tmp_path / "bench.json"
    missed = case(error=error, theirs=11.0)
    assert bench.measure({"C1": goal(missed), "C2": goal(case())}, 5, place) == code
    found = json.loads(place.read_text(encoding="utf-8"))
    assert found["C1"]["met"] is False and found["C2"]["met"] is True
    assert found["C1"]["max_error"] == (error if math.isfinite(error) else None)
    assert ("wrong answers in C1 a" in capsys.readouterr().err) is (code == 8)


def test_what_is_not_measured_has_a_reason_and_no_number(bench, tmp_path):
    def refuse(repeats):
        raise NotMeasured("nothing to hold it against")

    place = tmp_path / "bench.json"
    assert bench.measure({"H7": Goal("title", "ratio", refuse)}, 5, place) == 0
    found = json.loads(place.read_text(encoding="utf-8"))
    assert found == {"H7": {"title": "title", "kind": "ratio", "reason": "nothing to hold it against"}}
    assert table.markdown(found).splitlines()[-1].endswith("| not measured: nothing to hold it against |")
    assert not any(character.isdigit() for row in table.rows(found) for character in "".join(row[1:]))


def test_the_table_is_written_from_the_file(bench, tmp_path, capsys):
    place = tmp_path / "bench.json"
    bench.measure({"C1": goal(case("one"), case("two", theirs=60.0), case("wrong", error=0.6))}, 5, place)
    capsys.readouterr()
    assert bench.main(["--table", str(place)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| C1 | one | 10.0 ms | 40.0 ms | 4.00x | 3.00x | 5.00x | 1.0e-01 | 1.10 | met |"
    assert lines[3].endswith("| stretch |") and lines[4].endswith("| WRONG: error above 5e-01 |")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["C1", "C99"], "error: unknown goals C99; choose from C1"),
        (["--repeats", "4"], "error: --repeats is 4; the fastest of at least 5 counts"),
        (["--gpu"], "error: no CUDA GPU is at hand"),
    ],
)
def test_a_wrong_request_is_one_sentence(bench, words, sentence, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench, "_prepare", lambda: None)
    assert bench.main(words) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(sentence) and shown.err.count("\n") == 1 and shown.out == ""


def test_runs_take_turns_and_the_fastest_counts(monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    order, seconds = [], iter([0.0, 3.0, 0.0, 8.0, 0.0, 2.0, 0.0, 4.0])
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    times = record.race(runs, 2, clock=lambda: next(seconds))
    assert "".join(order) == "abababab"[:6]
    assert times.ms == {"a": 2000.0, "b": 4000.0} and times.spread == 2.0


def test_the_limit_of_sharing_counts_products_of_matrices():
    """One layer of width 8, two of four heads for keys, 16 inner units, 10 words; prompt 6, two answers of 2."""
    config = models.llama(layers=1, width=8).model.config
    config.num_attention_heads, config.num_key_value_heads, config.intermediate_size, config.vocab_size = 4, 2, 16, 10
    per_token = 2 * (8 * 8 * (1 + 0.5 + 0.5 + 1) + 3 * 8 * 16)
    head = 2 * 8 * 10 * 4
    alone = 2 * (8 * per_token + 4 * 8 * 8**2 / 2) + head
    together = 10 * per_token + 4 * 8 * (6**2 / 2 + 2 * 6 * 2 + 2 * 2**2 / 2) + head
    assert sharing.bound(config, 6, 2, 2) == pytest.approx(alone / together)


@pytest.fixture(scope="module")
def small():
    bundle = models.llama(layers=2, width=64)
    teach(bundle.model)
    return bundle, sharing.group_of(bundle, 24, answer=5, members=3)


def test_sharing_is_exact_and_wrong_layouts_are_seen(small):
    bundle, group = small
    with models.float64(bundle.model), sharing._float64_head():
        wanted, slopes = sharing.naive_step(bundle, group, 2), record.gradients(bundle.model)
        assert sharing._error(bundle, group, wanted, slopes) < 1e-12
        for control in sharing.CONTROLS:
            assert sharing._error(bundle, group, wanted, slopes, control) > 10 * sharing.WRONG, control
        detached = sharing.shared_step(bundle, group, "detached")
        assert record.apart({"": detached}, {"": wanted}) < 1e-12  # only the gradients tell


@pytest.mark.parametrize(("on", "times"), [(False, 1), (True, 2)])
def test_checkpointing_computes_each_layer_again(small, on, times):
    bundle, group = small
    sharing._checkpointing(bundle.model, on)
    calls = []
    # Before the layer: a layer that is computed again is left as soon as all that was asked for is there.
    hook = bundle.model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    sharing.shared_step(bundle, group)
    hook.remove()
    sharing._checkpointing(bundle.model, False)
    assert len(calls) == times


def test_a_control_that_is_not_seen_fails_the_goal(monkeypatch):
    monkeypatch.setattr(sharing, "WRONG", 1e9)
    small_llama = models.llama(layers=1, width=64)
    monkeypatch.setattr(models, "llama", lambda **_: small_llama)
    monkeypatch.setattr(sharing, "FAMILIES", ("llama",))
    found = sharing.exact(1)
    assert len(found) == 2 and all(case.broken and "cannot see unreset, late" in case.note for case in found)


def test_apart_is_relative_to_the_largest_and_knows_missing_names():
    wanted = {"a": torch.tensor([4.0, 1.0]), "b": torch.tensor([0.5])}
    assert record.apart({"a": torch.tensor([4.0, 1.0]), "b": torch.tensor([0.7])}, wanted) == pytest.approx(0.05)
    assert record.apart({"a": wanted["a"]}, wanted) == math.inf
    for name in wanted:
        broken = {**wanted, name: torch.full_like(wanted[name], math.nan)}
        assert math.isnan(record.apart(broken, wanted))


def test_a_whole_step_can_be_built_with_the_reward_of_the_bench(bench, monkeypatch, tmp_path):
    """C10's reward is code outside of rlpost, which the bench has to allow."""
    monkeypatch.setattr(os, "environ", {**os.environ, "RLPOST_ALLOW_TARGETS": ""})
    bench._prepare()
    assert os.environ["RLPOST_ALLOW_TARGETS"] == "scripts"
    trainer = whole.our_trainer(models.llama(), whole.task_of(models.llama()), tmp_path / "ours")
    assert trainer.optimizer is not None
