"""Rollouts as tables, and groups dealt to ranks, optimizer steps and micro-batches."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlpost import rows, step
from rlpost.stack import Reward, RewardStack
from rlpost.types import Counts, Media, Prompt, Rollout, Task
from tests import toy


def rollout(group: str, tokens: list[int], trains: list[bool] | None = None, **more) -> Rollout:
    n = len(tokens)
    plain = {
        "task": Task(f"task-{group}", [], tags=("easy",)), "group": group, "prompt": Prompt([7]), "tokens": tokens,
        "trains": trains or [True] * n, "gen_logp": [-0.5 - i for i in range(n)], "text": "x" * n, "stop": "eos",
        "span": list(range(n)), "source": ["policy"] * n,
    }  # fmt: skip
    return Rollout(**(plain | more))


STACK = RewardStack({"length": Reward(lambda rs: [float(len(r.tokens)) for r in rs], 0.5)})


def uneven() -> list[Rollout]:
    return [
        rollout("b", [1, 2, 3]),
        rollout("a", [4], turn=2, version=3, parent=0, fork=1),
        rollout("b", [5, 6, 7, 8, 9], [False, False, True, True, True], stop="length", role="contrast"),
        rollout("c", [], index=4, trajectory=9),
    ]


def test_the_table_holds_every_row():
    given = uneven()
    STACK.score(given)
    table = rows.scored(given, STACK, version=5)
    assert table.tokens.tolist() == [[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [5, 6, 7, 8, 9], [0] * 5]
    assert table.mask.int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 1, 1, 1], [0] * 5]
    assert table.span.tolist() == [[0, 1, 2, -1, -1], [0, -1, -1, -1, -1], [0, 1, 2, 3, 4], [-1] * 5]
    assert table.gen_logp.tolist() == [
        [-0.5, -1.5, -2.5, 0, 0],
        [-0.5, 0, 0, 0, 0],
        [-0.5 - i for i in range(5)],
        [0] * 5,
    ]
    assert table.group.tolist() == [0, 1, 0, 2] and table.length.tolist() == [3, 1, 5, 0]
    assert table.age.tolist() == [5, 2, 5, 5] and table.turn.tolist() == [0, 2, 0, 0]
    assert (table.parent.tolist(), table.fork.tolist()) == ([-1, 0, -1, -1], [0, 1, 0, 0])
    assert (table.trajectory.tolist(), table.index.tolist()) == ([-1, -1, -1, 9], [0, 0, 0, 4])
    assert table.stop == ("eos", "eos", "length", "eos") and table.role[2] == "contrast"
    assert table.rewards.tolist() == [[3.0], [1.0], [5.0], [0.0]] and table.weights.tolist() == [0.5]


def test_rows_that_leave_span_or_logp_out_fill_the_whole_width():
    given = [rollout("a", [1, 2, 3], span=[], gen_logp=[], source=[]), rollout("a", [4], span=[])]
    STACK.score(given)
    table = rows.scored(given, STACK)
    assert table.span.tolist() == [[-1] * 3] * 2 and table.gen_logp.tolist() == [[0.0] * 3, [-0.5, 0.0, 0.0]]


def test_scores_of_spans_travel_with_their_rows():
    """Row 0 marks two spans, row 1 none: scored by span it is one. Both are taken and narrowed with their rows."""
    given = [rollout("a", [1, 2, 3], span=[0, 1, 1]), rollout("a", [4, 5], span=[-1, -1]), rollout("b", [6], span=[-1])]
    steps = RewardStack({"steps": Reward(lambda rs: [[0.25, -1.0], [2.0], None], 3.0)})
    steps.score(given)
    table = rows.scored(given, steps)
    assert table.span.tolist() == [[0, 1, 1], [0, 0, -1], [-1, -1, -1]]
    nan = math.nan
    expected = torch.tensor([[0.25, -1.0], [2.0, nan], [nan, nan]])[..., None]
    torch.testing.assert_close(table.span_rewards, expected, equal_nan=True)
    torch.testing.assert_close(table.rewards, torch.tensor([[-0.375], [2.0], [nan]]), equal_nan=True)
    part = rows.narrow(table, [1])
    assert part.tokens.tolist() == [[4, 5]] and part.span_rewards.shape == (1, 2, 1)
    kept = step.take(table, torch.tensor([False, True, True]))
    torch.testing.assert_close(kept.span_rewards, expected[1:], equal_nan=True)


def test_no_rollouts_give_an_empty_table():
    table = rows.scored([], STACK)
    assert table.tokens.shape == table.mask.shape == (0, 0) and table.rewards.shape == (0, 1)


def test_padding_keeps_integers_and_floats_apart():
    assert rows.padded([[1], [2, 3]], -1).dtype == torch.long
    assert rows.padded([[1], [2, 3]], 0.0).dtype == torch.float32
    assert rows.padded([], 0).shape == (0, 0)


def test_other_ranks_learn_nothing_heavy():
    task = Task("t", [{"role": "user"}], media=(Media("image", path="a.png"),), columns={"k": 1})
    heavy = rollout("a", [1], task=task, prompt=Prompt([1], [1], {"pixel_values": torch.ones(4)}))
    heavy.scores["r"] = 1.0
    light = rows.light(heavy)
    assert light.prompt == Prompt([]) and light.task.media == () and light.task.columns == {"k": 1}
    assert light.tokens == [1] and light.scores == {"r": 1.0} and heavy.task.media and heavy.prompt.features


# --- deal -----------------------------------------------------------------------------------------------------------


def table_of(group: list[int]) -> step.Scored:
    mask = torch.tensor([[True] * (1 + n % 3) + [False] * (2 - n % 3) for n in range(len(group))]).reshape(-1, 3)
    return toy.scored(torch.zeros(len(group), 1), torch.tensor(group, dtype=torch.long), mask, torch.zeros(mask.shape))


def test_uneven_groups_stay_whole_and_in_order():
    """Rank 0 has groups of 3, 1 and 2 rows (interleaved), rank 1 one group of 4: two steps of two micro-batches."""
    group, rank_of = [0, 1, 0, 2, 0, 2, 5, 5, 5, 5], [0] * 6 + [1] * 4
    dealt = rows.deal(table_of(group), rank_of, 2, 2, 2)
    assert dealt[0] == [[[0, 2, 4], [1]], [[], [3, 5]]]
    assert sorted(itertools.chain(*dealt[1][0], *dealt[1][1])) == [6, 7, 8, 9]
    assert sum(bool(part) for half in dealt[1] for part in half) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=20), st.integers(1, 3), st.integers(1, 4))
def test_every_row_is_dealt_once_and_groups_are_never_split(cells, steps, micro):
    rank_of = [rank for _, rank in cells]
    group = [number * 3 + rank for number, rank in cells]  # a group lives on one rank
    dealt = rows.deal(table_of(group), rank_of, 3, steps, micro)
    assert [len(half) for rank in dealt for half in rank] == [micro] * (3 * steps)
    parts = [(rank, part) for rank in range(3) for half in dealt[rank] for part in half]
    assert sorted(row for _, part in parts for row in part) == list(range(len(cells)))
    assert all(rank_of[row] == rank for rank, part in parts for row in part)
    homes = [{group[row] for row in part} for _, part in parts]
    assert sum(len(home) for home in homes) == len(set(group))
    for rank in range(3):
        sizes = [len({group[row] for row in part}) for half in dealt[rank] for part in half]
        assert max(sizes) - min(sizes) <= 1


def test_counts_of_a_step_span_the_ranks_and_skip_empty_parts():
    kept = table_of([0, 0, 1, 2, 2])  # rows of 1, 2, 3, 1, 2 tokens
    dealt = [[[[0, 1], []], [[2], []]], [[[3, 4], []], [[], []]]]
    assert rows.step_counts(kept, dealt, 0) == Counts(rows=4, tokens=6, groups=2, micro_batches=2)
    assert rows.step_counts(kept, dealt, 1) == Counts(rows=1, tokens=3, groups=1, micro_batches=1)
    assert rows.step_counts(kept, [[[[], []]]], 0) == Counts(rows=0, tokens=0, groups=0, micro_batches=0)


# --- narrow ---------------------------------------------------------------------------------------------------------


def test_narrow_cuts_every_table_of_tokens_to_the_longest_row():
    given = uneven()
    STACK.score(given)
    table = rows.scored(given, STACK)
    part = rows.narrow(step.score(table, METHOD).scored, [1, 0])
    assert part.tokens.tolist() == [[4, 0, 0], [1, 2, 3]] and part.mask.int().tolist() == [[1, 0, 0], [1, 1, 1]]
    for name in ("span", "gen_logp", "advantage"):
        assert getattr(part, name).shape == (2, 3), name
    assert part.rewards.shape == (2, 1) and part.group.tolist() == [1, 0]
    assert rows.narrow(table, []).tokens.shape == (0, 0)


def test_narrow_leaves_reward_columns_alone_when_there_are_as_many_as_tokens():
    record = toy.scored(
        torch.arange(6.0).reshape(2, 3), torch.tensor([0, 0]), torch.tensor([[1, 1, 0], [1, 0, 0]]).bool(),
        torch.zeros(2, 3), pair_rewards=torch.ones(2, 3), length=torch.tensor([2, 1]),
    )  # fmt: skip
    part = rows.narrow(record, [1])
    assert part.rewards.tolist() == [[3.0, 4.0, 5.0]] and part.pair_rewards.shape == (1, 3)
    assert part.mask.shape == (1, 1)


METHOD = toy.recipe("grpo")


def test_outcomes_say_how_each_group_did():
    given = [rollout("b", [1, 2, 3]), rollout("a", [4, 4]), rollout("b", [5]), rollout("b", [6, 7], [True, False])]
    STACK.score(given)
    table = rows.scored(given, STACK)
    first, second = rows.outcomes(table, step.score(table, METHOD), given, 11)
    # rewards are half the lengths: 1.5, 0.5 and 1.0 in group b, 1.0 alone in group a
    assert (first.task_id, first.n, first.tokens, first.step, first.tags) == ("task-b", 3, 5, 11, ("easy",))
    assert (first.mean, first.std, first.best) == pytest.approx((1.0, 0.5, 1.5))
    assert first.advantages == pytest.approx((0.5 / 0.5001, -0.5 / 0.5001, 0.0), abs=1e-5)
    assert (second.task_id, second.n, second.mean, second.std, second.tokens) == ("task-a", 1, 1.0, 0.0, 2)
    assert not math.isnan(second.advantages[0])


def test_outcomes_include_groups_that_did_not_stay_but_no_contrast_arm():
    """Group a leaves the step: its curriculum still hears that it was solved, with advantage 0."""
    given = [rollout("a", [1, 2]), rollout("a", [3, 4]), rollout("b", [5]), rollout("b", [6, 7, 8])]
    given.append(rollout("b", [9], [False], role="contrast"))
    STACK.score(given)
    table = rows.scored(given, STACK)

    def second(group, role):
        return torch.tensor([g == 1 and r == "policy" for g, r in zip(group, role, strict=True)])

    keep = {"some": second}
    a, b = rows.outcomes(table, step.score(table, replace(METHOD, keep=keep)), given, 3)
    assert (a.n, a.mean, a.advantages) == (2, 1.0, (0.0, 0.0))
    assert (b.n, b.mean, b.best) == (2, 1.0, 1.5) and sum(b.advantages) == pytest.approx(0.0, abs=1e-6)
    assert b.advantages[1] == pytest.approx(0.5 / (0.5**0.5 + 1e-4), abs=1e-5)
