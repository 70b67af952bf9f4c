"""Solutions of sums as questions of a verifier: what is right is told by the gold answer."""

import re

import pytest

from rlpost.dataset.verdicts import verdicts
from rlpost.errors import ConfigError
from rlpost.reward.verifier import read, verdict_form, verdict_right
from rlpost.types import Prompt, Rollout


def test_every_other_solution_is_wrong_and_the_gold_verdict_scores_full_marks():
    tasks = verdicts("test", test_size=20)
    assert [task.answer for task in tasks] == ["1", "0"] * 10
    for task in tasks:
        text = task.prompt[0]["content"]
        a, b, said = map(int, re.search(r"Calculate (\d+) \+ (\d+)\..*Step 1: (-?\d+)\n", text, re.DOTALL).groups())
        assert (a + b == said) == (task.answer == "1")
        fence = task.columns["verdict_fence"]
        gold, near = (f"So.\nVERDICT {fence}: {v} = {v}" for v in (task.answer, 1 - int(task.answer)))
        rows = [Rollout(task, "", Prompt([]), [], [], [], one, "eos") for one in (gold, near, text, "")]
        assert verdict_right(rows) == [1.0, 0.0, 0.0, 0.0] and verdict_form(rows) == [1.0, 1.0, 0.0, 0.0]
        assert read(text, fence) is None, "the question holds no verdict"
    assert [task.answer for task in verdicts("train", train_size=6, wrong_every=3)] == ["1", "1", "0"] * 2
    with pytest.raises(ConfigError, match="wrong_every=0: choose 1 or more"):
        verdicts("test", wrong_every=0)
