"""dr_po: a combination lock that is not opened from its start is opened from states of one demonstration."""

import pytest
import torch

from rlpost.stack import Reward, RewardStack
from tests import tabular

SYMBOLS, LOCK = "abcd$", "abdcabdc"


def state(question: str, text: str) -> int:
    return min(len(text), len(LOCK))


def right(rollout) -> float:
    return float(rollout.text == LOCK)


def start() -> torch.Tensor:
    """Every place of the lock is uniform over four letters; then comes the stop."""
    logits = torch.zeros(len(LOCK) + 1, 5)
    logits[:-1, -1], logits[-1, -1] = -20.0, 20.0
    return logits


def reached(seed: int, share: float) -> float:
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    tasks = [tabular.task(f"q{i}", LOCK, LOCK) for i in range(2)]
    knobs = [f"rollout.share={share}", "rollout.max_tokens=9", "rollout.num_generations=8"]
    values = tabular.Values(policy, "dr_po", *knobs, lr=2.0)
    tabular.train(policy, tasks, "dr_po", *knobs, right=right, steps=120, lr=20.0, seed=seed, values=values)
    return policy.probability("q", LOCK)


@pytest.mark.parametrize("seed", range(3))
def test_a_lock_is_opened_from_states_of_a_demonstration(seed):
    """A quarter of the rows starts at the prompt: the first step is no state to reset to. share 0 is plain PPO."""
    assert reached(seed, 0.75) > 0.5 and reached(seed, 0.0) < 0.01


def test_forced_tokens_get_no_gradient():
    """The states before the reset do not move, whatever the rewards; their values do."""
    collect, method, sampling, _ = tabular.collected("dr_po", "rollout.max_tokens=9")
    noise = 0.3 * torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    policy = tabular.Tabular(SYMBOLS, start() + noise, state)
    stack = RewardStack({"right": Reward(lambda rows: [float(i * i) for i in range(len(rows))])})
    ctx = tabular.context(policy, stack, sampling, 6, seed=1)
    rollouts = collect([tabular.task("q", LOCK, LOCK)], ctx)
    place = rollouts[0].fork
    assert 1 <= place <= 7
    ctx.score(rollouts)
    values = tabular.Values(policy, "dr_po", lr=1.0)
    gradient = torch.autograd.grad(tabular.objective(policy, rollouts, method, stack, values), policy.logits)[0]
    assert gradient[:place].eq(0).all() and gradient[place].ne(0).any()
    assert values.table[:place].ne(0).all(), "the critic learns there too"
