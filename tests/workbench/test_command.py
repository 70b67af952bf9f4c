"""`rlpost reward-test` as a command: probes, completions of a run, rows of a file, two stacks, files, exit codes."""

import json

import pytest
from typer.testing import CliRunner

from rlpost.app import app
from rlpost.config import compose
from rlpost.plan.rewards import rollout
from rlpost.plan.skeleton import skeleton
from rlpost.rollout.engine import Sampling
from rlpost.run import files
from rlpost.run.folder import RunFolder
from rlpost.stack import Reward, RewardStack
from rlpost.trainers.records import scored_records
from rlpost.workbench.texts import Marker, of_run
from tests.workbench import rewards

ENCODER = skeleton({"_target_": "rlpost.models.tiny.text"}).encoder
LONG = f"reward.mine._target_={rewards.__name__}.length"


def ask(*words):
    return CliRunner().invoke(app, ["reward-test", *map(str, words)], prog_name="rlpost", env={"COLUMNS": "120"})


def facts(*words):
    done = ask(*words, "--json")
    return done, json.loads(done.stdout)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps with two groups of three completions each, scored by the number of words over 100."""
    place = tmp_path_factory.mktemp("run") / "one"
    words = ["model=tiny", "reward=[]", LONG, "reward.mine.weight=2.0", "trainer.max_steps=2", f"run.dir={place}"]
    cfg = compose("grpo", words)
    folder = RunFolder.create(cfg)
    from rlpost.nodes import build

    tasks = build(cfg.tree["dataset"])("train")
    stack = RewardStack({"mine": Reward(rewards.length, weight=2.0)})
    for step in (1, 2):
        rows = []
        for group in range(2):
            task = tasks[2 * step + group]
            said = [f"{task.answer}", f"it is {task.answer}", "let me think about it"]
            rows += [rollout(ENCODER, task, text, group=f"{step}.{group}") for text in said]
        stack.score(rows)
        folder.rollouts([{**line, "step": step} for line in scored_records(rows, stack)])
    return place


def test_probes_of_a_sound_stack(tmp_path):
    done, found = facts("model=tiny", "reward=[correct,format]", "--samples", "4", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert found["source"] == "probes of 4 rows of the dataset: 100 texts" and found["findings"] == []
    columns = found["stacks"][0]["columns"]
    assert columns["correct"]["scored"] == "100 of 100" and columns["total"]["most"] == 2.0
    assert columns["correct"]["histogram"]["edges"] == [0.0, 1.0]
    assert sum(columns["correct"]["histogram"]["counts"]) == 100
    assert found["stacks"][0]["latency_s"]["correct"]["calls"] == 100
    assert found["gold_written"] == "with thoughts"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "reward_test.html",
        "reward_test.json",
        "scores.jsonl",
    }
    lines = files.read_lines(tmp_path / "out" / "scores.jsonl")
    gold = next(line for line in lines if line["probe"] == "gold")
    assert (
        len(lines) == 100
        and gold["scores"] == {"first": {"correct": 1.0, "format": 1.0}}
        and gold["total"] == {"first": 2.0}
    )
    page = (tmp_path / "out" / "reward_test.html").read_text(encoding="utf-8")
    assert "no holes" in page and "another&#39;s gold" in page and "http" not in page.replace("http://www.w3.org", "")


def test_a_hole_is_exit_9_and_can_be_looked_at(tmp_path):
    words = ["model=tiny", "reward=[format]", "--samples", "4", "--out", tmp_path]
    assert ask(*words, "--no-fail-on-hack").exit_code == 0
    done = ask(*words)
    assert done.exit_code == 9 and "the scan found 2 holes" in done.stderr
    assert "hole: format does not tell wrong from right: 1 and 1 (4 of 4 rows)" in done.stdout
    assert "2 holes" in (tmp_path / "reward_test.html").read_text(encoding="utf-8")


def test_a_reward_that_raises_is_counted_shown_and_exit_5():
    done = ask("model=tiny", "reward=[]", f"reward.mine._target_={rewards.__name__}.faulty", "--samples", "2")
    assert done.exit_code == 5 and "reward 'mine' would stop a run" in done.stderr and "no text" in done.stderr
    assert "Rows without a score" in done.stdout and "this says nothing about holes" in done.stdout


def test_the_completions_of_a_run_say_again_what_they_said(run):
    done, found = facts("--run", run)
    assert done.exit_code == 0, done.output
    assert found["source"].endswith("12 in 4 groups") and [one["name"] for one in found["stacks"]] == [
        "now",
        "recorded",
    ]
    assert found["rewards_of_both"] == [{"reward": "mine", "rows": 12, "equal": 12, "gap": 0.0}]
    agreed = found["agreement"]
    # three rows of 1, 3 and 5 words in each group: three pairs, none tied
    assert (agreed["pairs"], agreed["alike"], agreed["flipped"], agreed["silent"]) == (12, 12, 0, [0, 0])
    assert agreed["spearman"] == pytest.approx(1.0) and agreed["kendall"] == 1.0
    assert found["stacks"][1]["latency_s"]["mine"]["calls"] is None and found["probes"] == []


def test_another_stack_turns_pairs_over(run):
    """Right or wrong gives (1, 1, 0) where words gave (1, 3, 5): of the pairs 12, 13, 23 the last two are flipped."""
    done, found = facts("--run", run, "reward=[correct]", "~reward.mine", "--worst", "2")
    assert done.exit_code == 0, done.output
    agreed = found["agreement"]
    assert (agreed["pairs"], agreed["flipped"], agreed["tied_first"], agreed["alike"]) == (12, 8, 4, 0)
    assert agreed["flip_share"] == pytest.approx(2 / 3) and agreed["best_changes"] == 4
    # tau-b of a group: (0 - 2) / sqrt(2 * 3)
    assert agreed["kendall"] == pytest.approx(-2 / 6**0.5)
    assert len(found["flips"]) == 2
    worst = found["flips"][0]
    assert worst["down"]["text"] == "let me think about it" and worst["up"]["totals"]["now"] == 1.0
    # 2 * 5 words / 100
    assert worst["down"]["totals"] == {"now": 0.0, "recorded": pytest.approx(0.1)}


def test_steps_are_batches_with_their_progress_and_groups_can_be_limited(run):
    found = of_run(run, None, 1, 2)
    assert [(one.step, one.progress, len(one.texts)) for one in found] == [(0, 0.0, 6), (1, 0.5, 6)]
    assert [len(one.texts) for one in of_run(run, 2, 1, 2)] == [3, 3]
    rows = Marker({"_target_": "rlpost.rollout.sample.sample"}, ENCODER, Sampling(max_tokens=8)).rows(found[0].texts)
    assert rows[0].group == found[0].texts[0].group and rows[0].scores == {}


def test_rows_of_a_file_under_two_stacks(tmp_path):
    place = tmp_path / "rows.jsonl"
    said = ["<think>so</think><answer>7</answer>", "7", "<think>so</think><answer>8</answer>"]
    place.write_text(
        "".join(json.dumps({"prompt": "3 + 4?", "completion": text, "answer": "7"}) + "\n" for text in said)
    )
    words = ["model=tiny", "--rows", place, "reward=[correct,format]", "--against", "reward.correct.weight=0.5"]
    done, found = facts(*words, "--against", "reward.format.weight=2.0")
    assert done.exit_code == 0, done.output
    # totals (2, 1, 1) and (2.5, 0.5, 2): the last pair is tied under the first alone, the others are ordered alike
    agreed = found["agreement"]
    assert (agreed["pairs"], agreed["alike"], agreed["tied_first"], agreed["flipped"]) == (3, 2, 1, 0)
    assert [found["stacks"][i]["columns"]["total"]["mean"] for i in (0, 1)] == pytest.approx([4 / 3, 5 / 3])
    assert found["stacks"][1]["columns"]["total"]["most"] == 2.5


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--run", "/no/run"], 2, "there is no such folder"),
        (["--run", "tests"], 2, "--run tests is no run folder"),
        (["--rows", "x", "--run", "y", "--samples", "1"], 2, "2 faults"),
        (["model=tiny", "--rows", "/no/rows.jsonl"], 3, "there is no such file"),
        (["model=tiny", "objectiv=gspo", "--against", "reward=[nothing]"], 2, "2 faults"),
        (["model=tiny", "reward=[]"], 2, "there is no reward"),
        (["model=tiny", "reward.correct.when={kind: free}", "--samples", "2"], 5, "got a score (first stack)"),
        (["model=tiny", "--limit", "3"], 2, "it is --samples"),
        (["model=tiny", "--tolerance", "1"], 2, "is a share"),
    ],
)
def test_what_is_wrong_is_a_sentence_with_its_code(words, code, sentence):
    done = ask(*words)
    assert done.exit_code == code and sentence in done.stderr, done.output


def test_a_dataset_that_asks_something_else_is_no_ground_for_scores(run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "config.yaml").read_text(encoding="utf-8").replace("Calculate {expression}.", "Add {expression}.")
    (other / "config.yaml").write_text(text, encoding="utf-8")
    done = ask("--run", other)
    assert done.exit_code == 3 and "asks something else under every id" in done.stderr
