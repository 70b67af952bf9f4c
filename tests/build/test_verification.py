"""Completions become questions of a verifier that a run which is continued asks again as they were."""

import json

import pytest

from rlpost import built
from rlpost.build.verification import verification
from rlpost.errors import ConfigError
from rlpost.reward.verifier import read
from rlpost.types import Media, Task
from tests.build.rows import said

SUM = Task(
    "sum", ({"role": "user", "content": "3 + 4?"},), answer="7", media=(Media("image", path="a.png"),), tags=("x",)
)


def test_steps_outcome_and_fence():
    rows = [
        said(SUM, "It is 3\n\nand 4\n\n7", correct=1.0), said(SUM, "8", correct=0.0), said(SUM, " ", correct=0.0),
        said(SUM, "seven", correct=None), said(SUM, "7", role="contrast", correct=1.0),
    ]  # fmt: skip
    first, second = verification(rows)
    assert (first.answer, first.columns["verdict_steps"]) == ("1", 3)
    assert (second.answer, second.columns["verdict_steps"]) == ("0", 1)
    asked = first.prompt[0]["content"]
    assert "user: 3 + 4?" in asked and "Step 1: It is 3\nStep 2: and 4\nStep 3: 7\n" in asked
    fence = first.columns["verdict_fence"]
    assert fence in asked and fence != second.columns["verdict_fence"]
    assert read(f"VERDICT {fence}: 1 1 0 = 1", fence) == ([1, 1, 0], 1)
    assert not first.media and first.demonstration is None


def test_scores_of_another_name_and_ends_of_another_kind():
    rows = [said(SUM, "a; b; c", correct=0.0, share=0.75)]
    (one,) = verification(rows, name="share", right=0.75, end="; ", template="{count} {steps}")
    assert one.answer == "1" and one.prompt[0]["content"] == "3 Step 1: a;\nStep 2: b;\nStep 3: c"
    with pytest.raises(ConfigError, match=r"build.end='\(' is no regular expression"):
        verification(rows, end="(")


def test_a_built_question_is_read_back_whole():
    (one,) = verification([said(SUM, "7", correct=1.0)])
    line = json.loads(json.dumps(built._written(one, SUM)))
    again = built._read(line, {"sum": SUM})
    assert again.prompt == list(one.prompt) and (again.answer, again.media) == ("1", ())
    assert again.columns == one.columns
    plain = built._read(json.loads(json.dumps(built._written(SUM, SUM))), {"sum": SUM})
    assert plain.prompt is SUM.prompt and (plain.answer, plain.media) == ("7", SUM.media)
