"""What a teacher says of the policy's tokens, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from rlpost.errors import ModelError
from rlpost.models import tiny
from rlpost.models.scorer.local import Local
from rlpost.models.scorer.stand_in import StandIn
from rlpost.models.teacher import Teacher
from rlpost.types import Media, Prompt, Rollout, Task

ENCODER = tiny.text().encoder


def rollout(question, text, trains=True):
    task = Task(question, ({"role": "user", "content": question},))
    tokens = ENCODER.completion(task, text).tokens
    return Rollout(task, "g", ENCODER.prompt(task), tokens, [trains] * len(tokens), [0.0] * len(tokens), text, "eos")


def local(**knobs):
    return Local(model=lambda: tiny.text(**knobs), cache=False)


def test_each_token_gets_the_teachers_own_log_probability():
    rows = [
        rollout("What is 3 + 4?", "7"),
        rollout("Say it.", "not this one", trains=False),
        rollout("And?", "it is 9"),
    ]
    found = Teacher(local(seed=5), ENCODER).logp(rows)
    assert found[1] == [0.0] * len(rows[1].tokens)
    model = tiny.text(seed=5).model
    for i in (0, 2):
        ids = torch.tensor([rows[i].prompt.ids + rows[i].tokens])
        n = len(rows[i].tokens)
        wanted = torch.log_softmax(model(input_ids=ids).logits[0, -n - 1 : -1], -1).gather(-1, ids[0, -n:, None])
        torch.testing.assert_close(torch.tensor(found[i]), wanted[:, 0], rtol=1e-4, atol=1e-5)


def test_another_tokenizer_is_found_out():
    with pytest.raises(ModelError, match="another tokenizer"):
        Teacher(StandIn(), ENCODER).logp([rollout("a", "b")])


def test_other_prompts_and_media_are_refused():
    row = rollout("What is 3 + 4?", "7")
    teacher = Teacher(local(), ENCODER)
    with pytest.raises(ModelError, match="continues another prompt"):
        teacher.logp([replace(row, prompt=Prompt([*row.prompt.ids, 5]))])
    seen = replace(row, task=replace(row.task, media=(Media("image"),)))
    with pytest.raises(ModelError, match="reads text only"):
        teacher.logp([seen])
