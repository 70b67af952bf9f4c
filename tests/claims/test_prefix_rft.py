"""prefix_rft: a solution that GRPO never finds is learnt, from the least certain tokens of its beginnings."""

import pytest
import torch

from rlpost.stack import Reward, RewardStack
from tests import tabular

SYMBOLS = "abcdefghijkl$"
SOLUTION = "abcdefghijkl"
UNKNOWN = range(0, 12, 2)


def state(question: str, text: str) -> int:
    return min(len(text), len(SOLUTION))


def right(rollout) -> float:
    return float(rollout.text == SOLUTION)


def start() -> torch.Tensor:
    """Six of twelve positions are known with 0.97, the others are uniform over twelve symbols; then comes the stop."""
    logits = torch.zeros(13, 13)
    logits[:12, 12], logits[12, 12] = -20.0, 20.0
    for t in range(12):
        if t not in UNKNOWN:
            logits[t, t] = torch.log(torch.tensor(0.97 * 11 / 0.03))
    return logits


def reached(seed: int, name: str, *knobs: str) -> float:
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    task = tabular.task("q", SOLUTION, SOLUTION)
    tabular.train(
        policy, [task], name, *knobs, "rollout.max_tokens=13", right=right, steps=150, lr=40.0, seed=seed
    )  # fmt: skip
    return policy.probability("q", SOLUTION)


@pytest.mark.parametrize("seed", range(3))
def test_a_solution_out_of_reach_is_learnt(seed):
    assert reached(seed, "prefix_rft") > 0.5
    assert reached(seed, "prefix_rft", "rollout.high=0") < 0.001


@pytest.mark.parametrize("won", [True, False])
def test_the_least_certain_of_the_beginning_moves_with_the_outcome(won):
    """Six forced tokens: ceil(0.2 * 6) = 2 train, of the uncertain 0, 2, 4 the earlier; what is written does."""
    collect, method, sampling, _ = tabular.collected("prefix_rft", "rollout.high=0.5", "rollout.low_min=0.5")
    policy = tabular.Tabular(SYMBOLS, start(), state)
    stack = RewardStack({"right": Reward(lambda rows: [float((r.role == "hybrid") == won) for r in rows])})
    ctx = tabular.context(policy, stack, sampling, 4)
    rollouts = collect([tabular.task("q", SOLUTION, SOLUTION)], ctx)
    ctx.score(rollouts)
    for row in rollouts[:-1]:
        row.trains = [False] * len(row.tokens)
    value = tabular.objective(policy, rollouts, method, stack)
    gradient = torch.autograd.grad(value, policy.logits)[0]
    rows = len(rollouts[-1].tokens)
    assert rollouts[-1].fork == 6 and rows in (12, 13)
    assert gradient.ne(0).any(-1).nonzero()[:, 0].tolist() == [0, 2, *range(6, rows)]
    assert [bool(gradient[t, t] < 0) for t in (0, 2)] == [won, won]
