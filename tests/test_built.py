"""Training data built from an earlier run: completions read back with their tasks, rows kept for a continued run."""

import json

import pytest

from rlpost import built
from rlpost.config import check, compose
from rlpost.errors import ConfigError, DataError
from rlpost.execute import execute


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A real run of `rlpost sample`: 4 tasks with 2 completions each."""
    folder = tmp_path_factory.mktemp("runs") / "answers"
    execute("sample", ["model=tiny", "debug=smoke", "reward=[correct,format]", f"run.dir={folder}", "seed=3"])
    return folder


def tree(*overrides):
    return compose("sft", ["model=tiny", *overrides]).tree


def test_completions_come_back_with_their_tasks_and_scores(sampled):
    lines = [json.loads(line) for line in (sampled / "rollouts.jsonl").read_text().splitlines()]
    found = built.completions(sampled)
    assert [(r.text, r.group, r.scores, r.info["reward"], r.info["length"]) for r in found] == [
        (line["text"], line["group"], line["scores"], line["reward"], line["tokens"]) for line in lines
    ]
    assert len(found) == 8 and len({r.group for r in found}) == 4
    assert all(r.task.prompt[0]["content"].startswith("Calculate") and r.task.answer for r in found)


def test_rows_are_built_once_and_kept_for_a_continued_run(sampled, tmp_path):
    node = tree("build=best_of_group", f"built_from=[{sampled},{sampled}]")
    rows = built.training_tasks(node, tmp_path)
    # Four groups in each of the two runs, and the rows of one task have ids of their own.
    assert len(rows) == 8 and len({row.id for row in rows}) == 8
    assert rows[0].id + "#2" == rows[4].id and rows[0].prompt == rows[4].prompt
    said = {(r.task.id, r.text) for r in built.completions(sampled)}
    assert all((row.id.partition("#")[0], row.demonstration) in said for row in rows)
    again = built.training_tasks({**node, "seed": 99}, tmp_path)
    assert again == rows
    (tmp_path / "built.jsonl").write_text((tmp_path / "built.jsonl").read_text().splitlines()[0] + "\n")
    assert built.training_tasks(node, tmp_path) == rows[:1]


def test_a_run_whose_data_was_built_can_be_built_from(sampled, tmp_path):
    node = tree("build=best_of_group", f"built_from={sampled}")
    rows = built.training_tasks(node, tmp_path)
    (tmp_path / "config.yaml").write_text(json.dumps(node))
    assert built.asked(tmp_path) == rows


def test_what_cannot_be_built_from_is_a_sentence(sampled, tmp_path):
    node = tree("build=best_of_group", f"built_from={tmp_path}")
    with pytest.raises(ConfigError, match="holds no completions"):
        built.training_tasks(node, tmp_path)
    node = tree("build=best_of_group", "build.score=correct", "build.ties=skip", f"built_from={sampled}")
    with pytest.raises(DataError, match="best_of_group made no row of 8 completions"):
        built.training_tasks(node, tmp_path)
    assert not (tmp_path / "built.jsonl").exists()


def faults(*overrides):
    with pytest.raises(ConfigError) as caught:
        check(compose("sft", ["model=tiny", *overrides]))
    return caught.value.faults


def test_the_check_finds_what_a_build_lacks():
    check(compose("sft", ["model=tiny", "build=best_of_group", "built_from=a"]))
    assert faults("build=best_of_group") == [
        "build needs the run folders whose completions it reads: built_from=[<folder>]"
    ]
    assert "built_from=['a'] is read by no build" in faults("built_from=[a]")[0]
    assert "unknown build 'best_of_grup'; did you mean 'best_of_group'?" in faults("build=best_of_grup")[0]
    assert "must be" in faults("build=best_of_group", "built_from=3")[0]
    asked = faults("build=best_of_group", "built_from=a", "build.policy_role=now")
    assert asked[0].startswith("build asks models.now, which is not configured: scorer@models.now=<name>")
    other = faults("build=best_of_group", "built_from=a", "build._target_=rlpost.build.rows.score")
    assert "reads 'name', which a build is not given; there are models, rng" in " ".join(other)
    kept = faults("trainer.optimizer_from=a", "peft=lora")
    assert kept == [
        "trainer.optimizer_from: an adapter starts anew in every run, and so does its optimizer; use peft=none"
    ]
