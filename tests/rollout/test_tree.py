"""Trees of completions: who shares what with whom, where they split, end early and grow anew."""

from dataclasses import replace

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.rollout.engine import Sampling
from rlpost.rollout.tree import allocate, repeats, treepo
from rlpost.stack import RewardStack
from tests import tabular

TASKS = [tabular.task("first", "a"), tabular.task("second", "b")]


class Counted:
    """A table's engine that counts what it writes."""

    def __init__(self, policy):
        self.policy, self.tokens, self.calls = policy, 0, 0

    def __call__(self, prompts, n, sampling):
        found = self.policy.engine(prompts, n, sampling)
        self.calls += 1
        self.tokens += sum(len(one.tokens) for one in found)
        return found


def context(n, max_tokens, *, end=-30.0, seed=0, symbols="abcdefgh$"):
    """A policy that writes letters at random, each likelier than the one before, and ends with logit `end`."""
    logits = torch.linspace(0.0, 1.0, len(symbols))[None].clone()
    logits[0, -1] = end
    policy = tabular.Tabular(symbols, logits, lambda question, text: 0, seed)
    ctx = tabular.context(policy, RewardStack({}), Sampling(max_tokens), n, seed=seed)
    return replace(ctx, engine=Counted(policy))


def trees(rows):
    """Rows by group, after checking that each agrees with the row it says it left."""
    groups = {}
    for row in rows:
        groups.setdefault(row.group, {})[row.trajectory] = row
    for leaves in groups.values():
        assert sorted(leaves) == list(range(len(leaves)))
        for row in leaves.values():
            other = leaves[row.parent] if row.parent >= 0 else None
            assert other is not None or row.fork == 0
            if other is not None:
                assert row.tokens[: row.fork] == other.tokens[: row.fork]
                assert row.gen_logp[: row.fork] == other.gen_logp[: row.fork]
    return list(groups.values())


@pytest.mark.parametrize("end", [-30.0, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_task_gets_its_leaves_and_they_are_one_tree(end, seed):
    rows = treepo(TASKS, ctx := context(7, 10, end=end, seed=seed), segment=3, first_low=2, first_high=3)
    found = trees(rows)
    assert [len(leaves) for leaves in found] == [7, 7]
    assert [row.task.id for row in rows] == ["first"] * 7 + ["second"] * 7
    for row in rows:
        assert all(row.trains) and set(row.source) == {"policy"} and row.role == "policy"
        assert row.text == tabular._text(row.tokens) or row.stop == "eos"
        assert len(row.tokens) <= 10 and (row.stop == "eos" or len(row.tokens) == 10)
        assert row.span == [t // 3 for t in range(len(row.tokens))], "cut at segments only"
        assert "".join(row.info["spans"]) == row.text
    assert ctx.engine.tokens < sum(len(row.tokens) for row in rows), "what is shared is written once"
    assert any(row.fork > 0 for row in rows)


def test_paths_split_as_the_budget_allows():
    """2 paths, 4, then 7 of the 7 leaves: the last path gets what is left over, 1 + 1 + 1 + 4; no leaf grows anew."""
    ctx = context(7, 9)
    (leaves,) = trees(treepo(TASKS[:1], ctx, segment=3, first_low=2, first_high=2))
    assert [leaves[t].fork for t in range(7)] == [0, 0, 3, 3, 6, 6, 6]
    assert [leaves[t].parent for t in range(7)] == [-1, -1, 0, 1, 3, 3, 3]
    assert ctx.engine.calls == 3 and ctx.engine.tokens == 2 * 3 + 4 * 3 + 7 * 3


def test_a_first_split_into_all_leaves_is_the_plain_rollout():
    ctx = context(5, 8, end=0.0)
    (leaves,) = trees(treepo(TASKS[:1], ctx, segment=3, first_low=5, first_high=5))
    assert [leaves[t].parent for t in range(5)] == [-1] * 5
    assert ctx.engine.tokens == sum(len(row.tokens) for row in leaves.values())


def rows_with(*logps):
    """Rows whose tokens have these log-probabilities."""
    (row,) = treepo(TASKS[:1], context(1, 2), segment=2)
    return [replace(row, gen_logp=list(logp)) for logp in logps]


def test_allocations():
    """Of 5 branches of 2 paths 3 are free: by softmax(1, 2) = .2689 and .7311 they are .807 and 2.193, so 1 and 2."""
    three = rows_with([-1.0], [-1.0], [-1.0])
    assert allocate(three, 8, "fixed_avg", 1.0) == [2, 2, 4] and allocate(three, 3, "fixed_avg", 1.0) == [1, 1, 1]
    two = rows_with([-0.5, -1.5], [-2.0])
    assert allocate(two, 5, "logprob_weighted", 1.0) == [2, 3] and allocate(two, 5, "inverse", 1.0) == [3, 2]
    assert allocate(two, 5, "logprob_weighted", 0.1) == [1, 4] and allocate(two, 2, "inverse", 0.1) == [1, 1]
    assert allocate(rows_with([-1.0], [-1.2], [-1.1]), 7, "logprob_weighted", 1e3) == [2, 3, 2]


@pytest.mark.parametrize("how", ["logprob_weighted", "inverse"])
def test_weighted_trees_have_their_leaves_too(how):
    (leaves,) = trees(treepo(TASKS[:1], context(7, 9, end=-1.0), segment=3, allocation=how))
    assert len(leaves) == 7


def test_a_repetition_ends_a_path():
    assert repeats("xabcabcabc", 3, 3) and not repeats("xabcabcabc", 3, 4) and not repeats("ab", 3, 2)
    assert repeats("aaaa", 2, 3), "stretches may overlap"
    ctx = context(4, 40, symbols="a$")
    rows = treepo(TASKS[:1], ctx, segment=10, first_low=2, first_high=2, repeat_chars=4, repeat_times=5)
    assert all(row.info["repeats"] and row.stop == "length" for row in rows) and len(rows) == 4
    assert all(len(row.tokens) - row.fork <= 10 for row in rows), "nothing is written behind the repetition"
    rows = treepo(TASKS[:1], ctx, segment=10, first_low=2, first_high=2, repeat_chars=4, repeat_times=8)
    assert all("repeats" not in row.info and len(row.tokens) == 40 for row in rows)


def ended(seed, segment=60, **knobs):
    """Two paths and the four that grow from them anew; where the segment is as long as the limit no path splits."""
    ctx = context(6, 60, end=2.0, seed=seed)
    (leaves,) = trees(treepo(TASKS[:1], ctx, segment=segment, first_low=2, first_high=2, **knobs))
    return [leaves[t] for t in sorted(leaves)]


def test_finished_leaves_grow_anew_from_the_start_of_a_segment():
    assert all(row.fork == 0 and row.parent >= 0 for seed in range(5) for row in ended(seed)[2:])
    forks = {row.fork for seed in range(20) for row in ended(seed, segment=2)[2:]}
    assert all(fork % 2 == 0 for fork in forks) and {0, 2, 4} <= forks


def test_or_before_the_least_likely_token_or_at_a_block():
    places = set()
    for seed in range(5):
        rows = ended(seed, fallback="min_logprob_token")
        for row in rows[2:]:
            parent = rows[row.parent]
            assert row.fork == min(range(len(parent.tokens)), key=lambda t: parent.gen_logp[t])
            # The beginning of the segment in which it was cut keeps its number; what is new starts the next one.
            assert row.fork == 0 or row.span[row.fork] == parent.span[row.fork - 1] + 1
            places.add(row.fork)
    assert len(places) > 2
    forks = {row.fork for seed in range(20) for row in ended(seed, fallback="block", block=2)[2:]}
    assert all(fork % 2 == 0 for fork in forks) and {0, 2} <= forks


def test_knobs_that_no_tree_can_have():
    for knobs in ({"segment": 0}, {"first_low": 3, "first_high": 2}, {"sharpness": 0.0}, {"repeat_times": 1}):
        with pytest.raises(ConfigError, match="rollout treepo has segment="):
            treepo(TASKS, context(4, 8), **knobs)
