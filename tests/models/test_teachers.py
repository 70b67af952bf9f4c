"""Teachers by task: each row is scored by its own, and one that is told the solution sees more than the policy."""

from dataclasses import replace

import pytest
import torch

from rlpost.errors import ConfigError, DataError
from rlpost.models import tiny
from rlpost.models.scorer.stand_in import StandIn
from rlpost.models.scorer.teachers import Routed, Told
from rlpost.models.teacher import Teacher
from rlpost.types import Task
from tests.models.test_teacher import ENCODER, local, rollout

SEEDS = {"math": 5, "code": 6}


def node(seed):
    return {
        "_target_": "rlpost.models.scorer.local.Local", "model": {"_target_": "rlpost.models.tiny.text", "seed": seed},
        "cache": False,
    }  # fmt: skip


def of(name, row):
    return replace(row, task=replace(row.task, columns={"teacher": name}))


def logp(seed, prompt, tokens):
    ids, n = torch.tensor([prompt + tokens]), len(tokens)
    logits = tiny.text(seed=seed).model(input_ids=ids).logits[0, -n - 1 : -1]
    return torch.log_softmax(logits, -1).gather(-1, ids[0, -n:, None])[:, 0].detach()


def test_each_task_is_taught_by_the_teacher_that_it_names():
    names = ["code", "math", "code"]
    rows = [of(name, rollout(f"What is {k} + 4?", "7" * k)) for k, name in enumerate(names, 1)]
    found = Teacher(Routed(teachers={name: node(seed) for name, seed in SEEDS.items()}), ENCODER).logp(rows)
    for name, row, one in zip(names, rows, found, strict=True):
        want = logp(SEEDS[name], row.prompt.ids, row.tokens)
        torch.testing.assert_close(torch.tensor(one), want, rtol=1e-4, atol=1e-5)
        other = next(seed for key, seed in SEEDS.items() if key != name)
        assert (torch.tensor(one) - logp(other, row.prompt.ids, row.tokens)).abs().max() > 1e-3


def test_a_teacher_that_nobody_names_is_not_loaded_and_an_unknown_one_is_said():
    teachers = Routed(teachers={"math": node(5), "code": {"_target_": "rlpost.models.load.hub", "path": "nowhere"}})
    Teacher(teachers, ENCODER).logp([of("math", rollout("a", "b"))])
    with pytest.raises(
        DataError, match="has 'art' in the column 'teacher', which names its teacher; there are math, c"
    ):
        Teacher(teachers, ENCODER).logp([of("art", rollout("a", "b"))])
    with pytest.raises(DataError, match="has None in the column"):
        Teacher(teachers, ENCODER).logp([rollout("a", "b")])
    with pytest.raises(ConfigError, match="must hold scorers by name"):
        Routed(teachers={"math": "a path"})


def test_one_is_told_the_solution():
    row = rollout("What is 3 + {solution}?", "7")
    row = replace(row, task=replace(row.task, demonstration="It is {question} 7."))
    told = Told(scorer=local(seed=5), template="{question} ({solution})")
    (found,) = Teacher(told, ENCODER).logp([row])
    shown = Task("t", ({"role": "user", "content": "What is 3 + {solution}? (It is {question} 7.)"},))
    want = logp(5, ENCODER.prompt(shown).ids, row.tokens)
    torch.testing.assert_close(torch.tensor(found), want, rtol=1e-4, atol=1e-5)
    column = replace(row.task, demonstration=None, columns={"gold": "It is {question} 7."})
    assert Told(scorer=StandIn(), column="gold", template=told.template).prompt(column) == list(shown.prompt)


def test_what_a_told_teacher_needs():
    with pytest.raises(DataError, match="has no solution as its demonstration"):
        Teacher(Told(scorer=local()), ENCODER).logp([rollout("a", "b")])
    with pytest.raises(ConfigError, match=r"needs \{question\} and \{solution\}"):
        Told(scorer=local(), template="{question}")
