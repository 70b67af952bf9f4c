"""spo_tree: only the piece that decides has credit, where GRPO pays every token of a completion alike."""

import pytest
import torch

from rlpost.rollout.engine import Sampling
from rlpost.stack import Reward, RewardStack
from tests import tabular

TASK, LEVELS = tabular.task("q", "b"), 3


def level(row, ctx):
    return (len(row.prompt.ids) - len(ctx.encoder.prompt(row.task).ids)) // 2


def credits(seed):
    """Mean |V(child) - V(parent)| of the edges of each level, and mean |r - mean r| of the leaves, in 20 trees."""
    policy = tabular.Tabular("abcd", torch.zeros(1, 4), lambda question, text: 0, seed)
    decides = RewardStack({"right": Reward(lambda rows: [float(r.text[2] in "ab") for r in rows])})
    collect, _, _, _ = tabular.collected("spo_tree", "rollout.branching=[6,6,6]", "rollout.segment=2")
    ctx = tabular.context(policy, decides, Sampling(6), 216, seed=seed)
    rows = collect([TASK] * 20, ctx)
    found = [[] for _ in range(LEVELS)]
    for row in rows:
        if row.role == "edge":
            found[level(row, ctx)].append(abs(row.info["value"] - row.info["parent_value"]))
    leaves = torch.tensor([row.scores["right"] for row in rows if row.role == "policy"]).reshape(20, -1)
    plain = (leaves - leaves.mean(1, keepdim=True)).abs().mean().item()
    return [sum(one) / len(one) for one in found], plain


@pytest.mark.parametrize("seed", range(3))
def test_the_deciding_piece_has_the_credit(seed):
    """The second of three pieces decides: GRPO gives each of them 0.5."""
    (first, second, third), plain = credits(seed)
    assert third == 0 and first < second / 2 and plain > 0.45, (first, second, third, plain)
