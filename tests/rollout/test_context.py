"""What a rollout may ask of the run: groups, prefixes, lengths and scores."""

import random

import pytest
import torch

from rlpost.models import tiny
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling, sample
from rlpost.stack import Reward, RewardStack
from rlpost.types import Task

ENCODER = tiny.text().encoder
TASKS = [Task(name, [{"role": "user", "content": name}]) for name in ("a", "longer", "b")]


def length(rollouts, step, progress):
    return [len(r.text) + step + progress for r in rollouts]


def context(engine, **more) -> Context:
    stack = RewardStack({"length": Reward(length)})
    return Context(engine, ENCODER, stack, Sampling(5, temperature=0.7), 4, random.Random(0), **more)


class Echo:
    """An engine whose k-th completion of prompt i is [40 + i, 50 + k]; it remembers its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, n, sampling):
        self.calls.append((prompts, n, sampling))
        return [
            Completion([40 + i, 50 + k], [-0.1 * i, -0.2 * k], "length") for i in range(len(prompts)) for k in range(n)
        ]


def test_completions_of_a_task_stand_side_by_side():
    engine = Echo()
    rows = context(engine, version=6).generate(TASKS, 2)
    assert [r.task.id for r in rows] == ["a", "a", "longer", "longer", "b", "b"]
    assert [r.tokens for r in rows] == [[40, 50], [40, 51], [41, 50], [41, 51], [42, 50], [42, 51]]
    assert rows[3].gen_logp == [-0.1, -0.2] and rows[3].prompt == ENCODER.prompt(TASKS[1])
    for row in rows:
        assert row.trains == [True] * 2 and row.span == [-1] * 2 and row.source == ["policy"] * 2
        assert (row.role, row.version, row.stop, row.text) == ("policy", 6, "length", ENCODER.decode(row.tokens))
    ((prompts, n, sampling),) = engine.calls
    assert len(prompts) == 3 and n == 2 and sampling == Sampling(5, temperature=0.7)


def test_groups_are_new_unless_named():
    ctx = context(Echo(), names="7.1")
    first, second = ctx.generate(TASKS[:2], 2), ctx.generate(TASKS[:1], 1)
    assert [r.group for r in first + second] == ["7.1.0", "7.1.0", "7.1.1", "7.1.1", "7.1.2"]
    beside = ctx.generate(TASKS[:2], 1, group=["7.1.1", "7.1.0"], role="contrast", trains=False)
    assert [(r.group, r.role, r.trains) for r in beside] == [
        ("7.1.1", "contrast", [False] * 2), ("7.1.0", "contrast", [False] * 2)
    ]  # fmt: skip
    assert ctx.new_groups(2) == ["7.1.3", "7.1.4"] and ctx.new_groups(0) == []


def test_a_prefix_belongs_to_the_row_but_does_not_train():
    engine = Echo()
    rows = context(engine).generate(TASKS[:2], 2, prefixes=[[60, 61, 62], []])
    plain = ENCODER.prompt(TASKS[0])
    asked = engine.calls[0][0]
    assert asked[0].ids == [*plain.ids, 60, 61, 62] and len(asked[0].kinds) == len(asked[0].ids)
    assert asked[1] == ENCODER.prompt(TASKS[1])
    assert rows[1].prompt == plain and rows[1].tokens == [60, 61, 62, 40, 51]
    assert rows[1].trains == [False] * 3 + [True] * 2 and rows[1].gen_logp == [0.0] * 3 + [-0.0, -0.2]
    assert rows[1].source == ["environment"] * 3 + ["policy"] * 2 and len(rows[1].span) == 5
    assert rows[1].text == ENCODER.decode(rows[1].tokens)
    assert rows[2].tokens == [41, 50]


def test_the_length_of_one_call_can_differ():
    engine = Echo()
    ctx = context(engine)
    ctx.generate(TASKS[:1], 1, max_tokens=2)
    ctx.generate(TASKS[:1], 1)
    assert [sampling.max_tokens for _, _, sampling in engine.calls] == [2, 5]


def test_nothing_asked_costs_nothing():
    engine = Echo()
    ctx = context(engine)
    assert ctx.generate([], 3) == [] and ctx.generate(TASKS, 0) == [] and engine.calls == []
    assert ctx.new_groups(1) == ["0.0"]


@pytest.mark.parametrize("wrong", [{"prefixes": [[1]]}, {"prefixes": [[1]] * 4}])
def test_as_many_prefixes_as_tasks(wrong):
    with pytest.raises(ValueError, match="zip"):
        context(Echo()).generate(TASKS, 1, **wrong)


def test_scores_are_stored_and_know_the_progress():
    ctx = context(Echo(), step=3, progress=0.25)
    rows = ctx.generate(TASKS[:1], 1)
    ctx.score(rows)
    assert rows[0].scores == {"length": len(rows[0].text) + 3.25}


def test_a_prefix_continues_as_if_the_model_had_written_it():
    """Greedily, the rest of a completion from its own beginning is the rest of that completion."""
    model = tiny.text(seed=4).model
    head = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(1))
    model.lm_head.weight = torch.nn.Parameter(0.3 * head)

    def engine(prompts, n, sampling):
        return sample(model, ENCODER, prompts, n, Sampling(sampling.max_tokens, temperature=0.0), torch.Generator())

    ctx = context(engine)
    whole = ctx.generate(TASKS, 1, max_tokens=8)
    assert len({len(set(r.tokens)) for r in whole} - {1}) > 0
    rest = ctx.generate(TASKS, 1, prefixes=[r.tokens[:3] for r in whole], max_tokens=5)
    assert [r.tokens for r in rest] == [r.tokens for r in whole]
