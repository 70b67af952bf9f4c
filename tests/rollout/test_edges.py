"""Trees whose edges are rows: what each holds, what it is worth, and what is no tree."""

import math
from functools import partial
from statistics import fmean, pstdev

import pytest
import torch

from rlpost import rows as tables
from rlpost.advantage.group import group_centred
from rlpost.errors import ConfigError
from rlpost.keep.groups import off_mean
from rlpost.rollout.edges import spo_tree
from rlpost.rollout.engine import Sampling
from rlpost.stack import Reward, RewardStack
from tests import tabular
from tests.rollout.scripted import by_role

TASKS = [tabular.task("first", "a"), tabular.task("second", "b")]


def worth(rollouts):
    """A number that depends on every letter of a whole text; none for texts that begin with c."""
    return [None if r.text.startswith("c") else float(sum(map(ord, r.text)) % 7) for r in rollouts]


def same(rollouts, *, worth):
    return [worth] * len(rollouts)


def context(max_tokens=6, end=-30.0, seed=0, rewards=None):
    """A policy that writes a, b and c at random, and ends with logit `end`."""
    policy = tabular.Tabular("abc$", torch.tensor([[0.3, 0.1, -2.0, end]]), lambda question, text: 0, seed)
    return tabular.context(
        policy, RewardStack(rewards or {"right": Reward(worth)}), Sampling(max_tokens), 16, seed=seed
    )


def nodes(rows):
    """By group of siblings: the text before them, and their rows."""
    found = {}
    for row in by_role(rows, "edge"):
        found.setdefault(row.group, []).append(row)
    return found


def test_every_edge_stands_under_its_parents_whole_text():
    ctx = context()
    rows = spo_tree(TASKS, ctx, branching=(3, 2, 2), segment=2)
    leaves, edges = by_role(rows, "policy"), by_role(rows, "edge")
    assert len(leaves) == 2 * 12 and len(edges) == 2 * (3 + 6 + 12)
    assert all(len(row.tokens) == 6 and not any(row.trains) and row.text for row in leaves)
    for row in edges:
        asked = ctx.encoder.prompt(row.task).ids
        before = row.prompt.ids[len(asked) :]
        assert (
            row.prompt.ids[: len(asked)] == asked
            and len(before) in (0, 2, 4)
            and len(row.prompt.kinds) == len(row.prompt.ids)
        )
        assert len(row.tokens) == 2 and all(row.trains) and set(row.source) == {"policy"}
        assert len(row.gen_logp) == 2 and max(row.gen_logp) < 0
        whole = [*before, *row.tokens]
        assert any(leaf.tokens[: len(whole)] == whole for leaf in leaves if leaf.task is row.task)
    assert {len(one) for one in nodes(rows).values()} == {2, 3}


@pytest.mark.parametrize("mode", ["rloo", "grpo"])
def test_values_are_means_of_children_and_siblings_add_up_to_nothing(mode):
    ctx = context(seed=3)
    rows = spo_tree(TASKS, ctx, branching=(3, 2, 2), segment=2, mode=mode)
    leaves = {tuple(row.tokens): row.scores["right"] for row in by_role(rows, "policy")}
    ctx.score(rows)
    table = tables.scored(rows, ctx.stack)
    credit = group_centred(table.rewards, table.weights, table.group)
    for siblings in nodes(rows).values():
        values = [row.info["value"] for row in siblings]
        known = [value for value in values if not math.isnan(value)]
        places = [rows.index(row) for row in siblings]
        if not known:
            assert all(row.scores == {"right": None} for row in siblings) and credit[places].eq(0).all()
            continue
        parent = siblings[0].info["parent_value"]
        assert parent == pytest.approx(fmean(known))
        scale = pstdev(known) + 1e-8 if mode == "grpo" else 1.0
        for place, value in zip(places, values, strict=True):
            wanted = 0.0 if math.isnan(value) else (value - parent) / scale
            assert float(credit[place]) == pytest.approx(wanted, abs=1e-5)
        assert float(credit[places].sum()) == pytest.approx(0.0, abs=1e-5)
    asked = len(ctx.encoder.prompt(TASKS[0]).ids)
    for row in by_role(rows, "edge"):
        whole = (*row.prompt.ids[-4:], *row.tokens)
        if len(row.prompt.ids) > len(ctx.encoder.prompt(row.task).ids) + 2:
            value = leaves[whole]
            assert math.isnan(row.info["value"]) if value is None else row.info["value"] == value
    assert asked and any(value is None for value in leaves.values()), "some leaves are not judged"


def test_equal_siblings_have_no_credit_whatever_they_are_worth():
    """Values such as 23/36 are no exact floats, so that a scale of 1e8 must not meet them."""
    for k in range(1, 36):
        ctx = context(rewards={"right": Reward(partial(same, worth=k / 36))})
        rows = spo_tree(TASKS[:1], ctx, branching=(3, 2), segment=2, mode="grpo")
        ctx.score(rows)
        table = tables.scored(rows, ctx.stack)
        edges = torch.tensor([row.role == "edge" for row in rows])
        assert group_centred(table.rewards, table.weights, table.group)[edges].eq(0).all()
        assert not off_mean(table.rewards, table.weights, table.group)[edges].any()


def test_a_node_that_ends_early_is_a_leaf():
    ctx = context(end=0.0, seed=1)
    rows = spo_tree(TASKS, ctx, branching=(4, 3), segment=3)
    short = [row for row in by_role(rows, "policy") if row.stop == "eos" and len(row.tokens) <= 3]
    assert short and all(len(row.tokens) <= 6 for row in rows)
    below = {tuple(row.prompt.ids[len(ctx.encoder.prompt(row.task).ids) :]) for row in by_role(rows, "edge")}
    assert not any(tuple(row.tokens) in below for row in short)


def test_the_first_reward_with_a_weight_carries_the_value():
    rewards = {"none": Reward(worth, weight=0.0), "half": Reward(worth, weight=0.5), "other": Reward(worth, weight=2.0)}
    ctx = context(rewards=rewards)
    rows = spo_tree(TASKS, ctx, branching=(2,), segment=2, reward="half")
    for row in by_role(rows, "edge"):
        value = row.info["value"]
        wanted = None if math.isnan(value) else pytest.approx(2 * value)
        assert row.scores == {"none": None, "half": wanted, "other": None}
    with pytest.raises(ConfigError, match="every reward of this run has weight 0"):
        spo_tree(TASKS, context(rewards={"none": Reward(worth, weight=0.0)}), branching=(2,), segment=2)


@pytest.mark.parametrize(
    "knobs", [{"branching": ()}, {"branching": (2, 0)}, {"segment": 0}, {"branching": (2, 2, 2), "segment": 3}]
)
def test_what_is_no_tree_is_refused(knobs):
    with pytest.raises(ConfigError, match="rollout spo_tree: branching"):
        spo_tree(TASKS, context(), **{"branching": (2,), "segment": 2, **knobs})
