"""Answers to held-out tasks and their accuracy."""

import pytest
import torch

from rlpost.evaluation import accuracy, answer
from rlpost.models import tiny
from rlpost.rollout.engine import Sampling
from rlpost.stack import Reward, RewardStack
from rlpost.types import Prompt, Rollout, Task

TASKS = [Task(f"t{i}", [{"role": "user", "content": "x" * (1 + 3 * i)}]) for i in range(5)]
SAMPLING = Sampling(6)


def stack() -> RewardStack:
    return RewardStack({"length": Reward(lambda rs: [float(len(r.tokens)) for r in rs])})


def test_every_task_is_answered_n_times_and_scored():
    seen = []
    rows = answer(tiny.text(), TASKS, stack(), SAMPLING, n=3, rows=7, done=seen.append)
    assert [r.task.id for r in rows] == [t.id for t in TASKS for _ in range(3)]
    assert seen == [2, 4, 5]  # two tasks of three completions fit seven rows
    assert len({r.group for r in rows}) == 5 and all(r.scores == {"length": float(len(r.tokens))} for r in rows)


def test_more_completions_than_rows_still_answers_one_task_at_a_time():
    seen = []
    rows = answer(tiny.text(), TASKS[:2], stack(), SAMPLING, n=3, rows=2, done=seen.append)
    assert len(rows) == 6 and seen == [1, 2]
    assert answer(tiny.text(), [], stack(), SAMPLING) == []


def test_the_seed_decides_and_the_global_state_does_not():
    bundle = tiny.text()
    runs = []
    for noise, seed in ((1, 0), (2, 0), (3, 9)):
        torch.manual_seed(noise)
        before = torch.random.get_rng_state()
        runs.append([r.tokens for r in answer(bundle, TASKS, stack(), SAMPLING, n=2, seed=seed)])
        assert torch.equal(torch.random.get_rng_state(), before)
    assert runs[0] == runs[1] != runs[2]


def test_greedy_answers_do_not_depend_on_how_many_go_together():
    bundle = tiny.text()
    greedy = Sampling(6, temperature=0.0)
    runs = [[r.tokens for r in answer(bundle, TASKS, stack(), greedy, rows=rows)] for rows in (1, 2, 64)]
    assert runs[0] == runs[1] == runs[2]


def test_a_rollout_option_may_decide_what_is_generated():
    def twice(tasks, ctx):
        return ctx.generate(tasks, 1, max_tokens=1) + ctx.generate(tasks, 1, role="contrast", max_tokens=2)

    rows = answer(tiny.text(), TASKS[:2], stack(), SAMPLING, collect=twice)
    assert [r.role for r in rows] == ["policy"] * 2 + ["contrast"] * 2
    assert all(len(r.tokens) <= (1 if r.role == "policy" else 2) and "length" in r.scores for r in rows)


def row(task: str, **scores) -> Rollout:
    return Rollout(Task(task, []), task, Prompt([]), [1], [True], [0.0], "", "eos", scores=scores)


ROWS = [
    row("a", right=1.0), row("b", right=0.0), row("a", right=0.0), row("c", right=None, close=0.8), row("a", right=1.0),
    row("d", right=None, close=None), row("c", right=0.2, close=1.0),
]  # fmt: skip


def test_accuracy_is_the_mean_over_tasks_of_the_share_of_right_completions():
    found = accuracy(ROWS, ["right"])
    assert found.per_task == pytest.approx({"a": 2 / 3, "b": 0.0, "c": 0.0}) and found.mean == pytest.approx(2 / 9)
    assert found.low <= found.mean <= found.high and found.low < found.high
    # of c, close 0.8 counts in the first row, right 0.2 comes first in the second
    both = accuracy(ROWS, ["right", "close"], threshold=0.8)
    assert both.per_task == pytest.approx({"a": 2 / 3, "b": 0.0, "c": 0.5})
    assert accuracy(ROWS, ["close", "right"], threshold=0.8).per_task == pytest.approx({"a": 2 / 3, "b": 0.0, "c": 1.0})


def test_scores_of_spans_count_with_their_mean():
    spanned = [row("a", steps=[1.0, None, 0.5]), row("a", steps=[0.5, 0.0]), row("b", steps=[None], right=1.0)]
    assert accuracy(spanned, ["steps", "right"], threshold=0.75).per_task == {"a": 0.5, "b": 1.0}


def test_no_score_that_applies_is_refused():
    for names in (["missing"], []):
        with pytest.raises(ValueError, match="applies to any of 7 completions"):
            accuracy(ROWS, names)
    with pytest.raises(ValueError, match="none of the scores"):
        accuracy([ROWS[5]], ["right", "close"])
