"""treepo: a tree of completions is written with fewer tokens, and its leaves are distributed as independent ones."""

import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from rlpost import rows, step
from rlpost.stack import Reward, RewardStack
from tests import tabular
from tests.rollout.test_tree import Counted

# The next letter depends on the last one.
TABLE = torch.tensor([[0.6, 0.4, 0.0], [0.35, 0.65, 0.0], [0.7, 0.3, 0.0]])
# The same, and a text may end after its first letter.
ENDING = torch.tensor([[0.6, 0.4, 0.0], [0.1, 0.4, 0.5], [0.35, 0.15, 0.5]])


def state(question: str, text: str) -> int:
    return 0 if not text else 1 + "ab".index(text[-1])


def leaves(table, seed, trees=100, n=8, *overrides):
    """Texts of the leaves of each tree, and the tokens that were written."""
    policy = tabular.Tabular("ab$", table.log(), state, seed)
    knobs = ["rollout.max_tokens=4", f"rollout.num_generations={n}", "rollout.segment=1", *overrides]
    collect, _, sampling, n = tabular.collected("treepo", *knobs)
    stack = RewardStack({"right": Reward(lambda some: [float(r.text.startswith("a")) for r in some])})
    ctx = tabular.context(policy, stack, sampling, n, seed=seed)
    ctx = replace(ctx, engine=Counted(policy))
    found = collect([tabular.task(f"q{i}", "a") for i in range(trees)], ctx)
    return [[row.text for row in found[i * n : (i + 1) * n]] for i in range(trees)], ctx.engine.tokens


def furthest(found, probability):
    """The largest distance of a text's share of the leaves from its probability, in standard errors over trees."""
    far = 0.0
    for text, p in probability.items():
        shares = torch.tensor([Counter(tree)[text] / len(tree) for tree in found])
        far = max(far, abs(float(shares.mean()) - p) / float(shares.std() / math.sqrt(len(found))))
    return far


def exact(text: str) -> float:
    p, row = 1.0, 0
    for letter in text:
        p, row = p * float(TABLE[row, "ab".index(letter)]), 1 + "ab".index(letter)
    return p


@pytest.mark.parametrize("seed", range(3))
def test_leaves_are_distributed_as_independent_completions_and_cost_less(seed):
    """The largest of 16 normal deviations exceeds 4.5 once in 10 000 cases.

    First splits into 2, 3, .. 8 write 2 + 4 + 8 + 8, 3 + 6 + 8 + 8, 4 + 8 + 8 + 8, .. 8 + 8 + 8 + 8 tokens, 197 / 7 on
    average, where 8 completions of 4 tokens are 32.
    """
    probability = {"".join(text): exact("".join(text)) for text in itertools.product("ab", repeat=4)}
    assert sum(probability.values()) == pytest.approx(1.0)
    found, tokens = leaves(TABLE, seed)
    assert furthest(found, probability) < 4.5
    assert tokens / len(found) == pytest.approx(197 / 7, abs=1.5) and tokens / len(found) < 32


@pytest.mark.parametrize("seed", range(3))
def test_they_are_not_where_some_end_early(seed):
    """Half of all completions end after one letter; their width goes to those that do not, so leaves are longer."""
    found, _ = leaves(ENDING, seed, 100, 8, "rollout.first_high=2")
    assert sum(len(text) == 1 for tree in found for text in tree) / (100 * 8) < 0.4


def test_the_papers_tree_through_the_whole_step():
    """1 -> 2 -> 4 leaves with rewards 1, 1, 1, 0: .125, .125, .375, -.625, whitened over tokens of equal length."""
    policy = tabular.Tabular("ab$", TABLE.log(), state, 0)
    knobs = ["rollout.max_tokens=2", "rollout.num_generations=4", "rollout.segment=1", "rollout.first_high=2"]
    collect, method, sampling, n = tabular.collected("treepo", *knobs, "shaping=[]")
    stack = RewardStack({"right": Reward(lambda some: [float(i < 3) for i in range(len(some))])})
    ctx = tabular.context(policy, stack, sampling, n)
    found = collect([tabular.task("q", "a")], ctx)
    # Leaves 0 and 2 part after the first segment, as do 1 and 3.
    found = [found[i] for i in (0, 2, 1, 3)]
    ctx.score(found)
    credit = step.score(rows.scored(found, stack), method).scored
    pre = torch.tensor([0.125, 0.125, 0.375, -0.625]).repeat_interleave(2).reshape(4, 2)
    torch.testing.assert_close(credit.advantage, pre / pre.flatten().std(), rtol=1e-5, atol=1e-5)
