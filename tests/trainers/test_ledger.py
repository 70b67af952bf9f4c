"""Every verb counts the same rows by the same causes; a limit ends it with its exit code; ranks add up to one."""

import json

import pytest
import torch

from rlpost import execute, ledger
from rlpost.errors import DataError
from rlpost.run import checkpoint
from tests import forked
from tests.trainers.ledger_rows import GRPO, SOUND, overrides, written

READ = {
    "the line is not JSON": 1,
    "the prompt is empty": 1,
    "column 'prompt' is missing": 1,
}
LONG = {"a prompt longer than the model's context of 2048 tokens": 3}
CUT = "a completion that ended at rollout.max_tokens=4"


@pytest.fixture
def rows(tmp_path):
    return written(tmp_path / "data.jsonl")


def counts(folder, kind="drop"):
    """Counts by cause, as `ledger.json` has them."""
    found = json.loads((folder / "ledger.json").read_text())
    return {row["cause"]: row["count"] for row in found if row["kind"] == kind}


def ran(verb, rows, folder, *more):
    ledger.reset()
    return execute.execute(verb, [*overrides(rows, folder), *more])


def test_grpo_counts_by_cause_in_metrics_report_checkpoint_and_at_the_end(rows, tmp_path, capsys):
    """4 steps of 6 prompts are almost two epochs of 13 tasks, of which 10 can be asked: each of the others once."""
    folder = tmp_path / "run"
    ran("grpo", rows, folder, *GRPO, "run.report=true")
    assert counts(folder) == {**READ, **LONG}
    total = counts(folder, "cut")[CUT]
    assert 0 < total <= 2 * SOUND * 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["phase"] == "ledger"
    assert {row["cause"] for row in lines[-1]["entries"]} == {*READ, *LONG, CUT}
    assert [one["ledger/cut"] for one in lines if "ledger/cut" in one][-1] == total
    said = capsys.readouterr().out
    page = (folder / "report.html").read_text()
    for cause in (*LONG, "the prompt is empty", CUT):
        assert cause in said and cause.replace("'", "&#39;") in page
    state = torch.load(checkpoint.newest(folder / "checkpoints") / "rlpost.pt", weights_only=True)
    saved = {row["cause"]: row["count"] for row in state["ledger"]["entries"]}
    assert saved == {**LONG, CUT: total}, "what loading counts is counted again when the run goes on"


def test_a_continued_run_counts_nothing_twice(rows, tmp_path):
    ran("grpo", rows, tmp_path / "whole", *GRPO)
    ran("grpo", rows, tmp_path / "half", *GRPO, "trainer.max_steps=2", "trainer.save_steps=2")
    ledger.reset()
    execute.execute("grpo", [f"resume={tmp_path / 'half'}", "trainer.max_steps=4"])
    for kind in ("drop", "cut"):
        assert counts(tmp_path / "half", kind) == counts(tmp_path / "whole", kind)


def test_eval_counts_the_same_rows_and_measures_the_others(rows, tmp_path):
    found = ran("eval", rows, tmp_path / "run", "trainer.split=train", "rollout.max_tokens=4")
    assert counts(tmp_path / "run") == {**READ, **LONG}
    assert found["tasks"] == SOUND
    assert 0 < counts(tmp_path / "run", "cut")[CUT] <= SOUND * found["num_generations"]


def test_sft_counts_the_same_rows(rows, tmp_path):
    ran("sft", rows, tmp_path / "run", "trainer.max_steps=2", "trainer.per_device_train_batch_size=12",
        "trainer.max_length=2048", "evaluation.tasks=0")  # fmt: skip
    assert counts(tmp_path / "run") == {**READ, "longer than trainer.max_length=2048 tokens": 3}


@pytest.mark.parametrize(
    ("verb", "more", "words"),
    [
        ("grpo", [*GRPO, "ledger.cut=0.01"], rf"kind 'cut' on .* ledger\.cut=0\.01.*(?s:.*){CUT}"),
        ("grpo", [*GRPO, "ledger.drop=0.1"], r"kind 'drop' on 16 rows.*ledger\.drop=0\.1"),
        ("grpo", [*GRPO, "dataset.max_bad=0.2"], r"longer than the model's context"),
        ("eval", ["trainer.split=train", "rollout.max_tokens=4", "ledger.drop=0.1"], r"kind 'drop' on 16 rows"),
    ],
)
def test_a_limit_ends_the_run_with_the_cause(verb, more, words, rows, tmp_path, capsys):
    with pytest.raises(DataError, match=words) as raised:
        ran(verb, rows, tmp_path / "run", *more)
    assert raised.value.exit_code == 3
    assert json.loads((tmp_path / "run" / "done.json").read_text())["exit_code"] == 3
    assert "the prompt is empty" in str(raised.value) + capsys.readouterr().out, "all causes are told"


def test_two_ranks_count_as_one_and_a_limit_ends_both(rows, tmp_path):
    """The entries of the second rank reach the first; both hear of the limit, so that none waits for the other."""
    script, half = "tests/trainers/ledger_rows.py", "trainer.per_device_train_batch_size=6"
    both = forked.run(script, str(rows), str(tmp_path / "two"), half, cwd=forked.ROOT, ranks=2)
    assert both.returncode == 0, both.stderr[-2000:]
    assert counts(tmp_path / "two") == {**READ, **LONG}
    stops = [json.loads(line)["stop"] for line in (tmp_path / "two" / "rollouts.jsonl").read_text().splitlines()]
    assert counts(tmp_path / "two", "cut")[CUT] == stops.count("length") > SOUND * 2
    ended = forked.run(script, str(rows), str(tmp_path / "three"), half, "ledger.cut=0.01", cwd=forked.ROOT, ranks=2)
    assert ended.returncode == 3 and "ledger.cut=0.01" in ended.stderr
