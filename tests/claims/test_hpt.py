"""hpt: what reinforcement never finds is taught, and what it does find is left to it."""

import pytest
import torch

from rlpost.stack import Reward, RewardStack
from tests import tabular

EASY, HARD = ("e0", "e1"), ("h0", "h1")
DEPTH, WORD = 5, "abcda"


def tasks():
    """The hard questions want a word of five letters out of four, 1 in 1024; the easy ones its first letter."""
    return [tabular.task(name, WORD if name in HARD else WORD[0], WORD) for name in (*EASY, *HARD)]


def state(question: str, text: str) -> int:
    names = [*EASY, *HARD]
    return next(i for i, name in enumerate(names) if name in question) * DEPTH + min(len(text), DEPTH - 1)


def right(rollout) -> float:
    return float(rollout.text.startswith(rollout.task.answer))


def reached(seed: int, gate: int) -> dict[str, float]:
    policy = tabular.Tabular("abcd", torch.zeros(4 * DEPTH, 4), state, seed)
    knobs = [f"rollout.gate={gate}", f"rollout.max_tokens={DEPTH}", "regularizer.entropy_bonus.coef=0.0"]
    tabular.train(policy, tasks(), "hpt", *knobs, right=right, steps=60, lr=8.0, seed=seed)
    return {name: policy.probability(name, WORD if name in HARD else WORD[0]) for name in (*EASY, *HARD)}


@pytest.mark.parametrize("seed", range(3))
def test_hard_questions_are_learnt_without_losing_the_easy_ones(seed):
    """Against the same run without demonstrations (gate -1). Demonstrations alone (gate 8) do better in this table."""
    hybrid, alone, taught = reached(seed, gate=0), reached(seed, gate=-1), reached(seed, gate=8)
    for name in HARD:
        assert taught[name] > hybrid[name] > 0.5 and alone[name] < 0.05, (hybrid, alone, taught)
    for name in EASY:
        assert hybrid[name] > alone[name] - 0.05 and alone[name] > 0.8, (hybrid, alone)


def test_a_failed_group_gives_the_gradient_of_sft_and_nothing_else():
    """All 8 completions wrong: the loss is the mean NLL of the demonstration's 6 tokens, over 2 groups."""
    collect, method, sampling, n = tabular.collected(
        "hpt", "rollout.max_tokens=5", "regularizer.entropy_bonus.coef=0.0"
    )
    policy = tabular.Tabular("abcd$", torch.randn(20, 5, generator=torch.Generator().manual_seed(1)), state)
    context = tabular.context(policy, RewardStack({"right": Reward(lambda rows: [0.0] * len(rows))}), sampling, n)
    failed = tasks()[1:3]
    rollouts = collect(failed, context)
    assert len(rollouts) == 2 * n + 2
    value = tabular.objective(policy, rollouts, method, context.stack)
    (found,) = torch.autograd.grad(value, policy.logits)
    table = torch.log_softmax(policy.logits, -1)
    wanted = 0.0
    for task in failed:
        for t, symbol in enumerate([0, 1, 2, 3, 0, 4]):
            wanted = wanted - table[state(task.id, "x" * t), symbol] / 6 / 2
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(found, torch.autograd.grad(wanted, policy.logits)[0])


def variant(name: str, seed: int, *overrides: str) -> dict[str, float]:
    policy = tabular.Tabular("abcd", torch.zeros(4 * DEPTH, 4), state, seed)
    knobs = [f"rollout.max_tokens={DEPTH}", "regularizer.entropy_bonus.coef=0.0", *overrides]
    tabular.train(policy, tasks(), name, *knobs, right=right, steps=60, lr=8.0, seed=seed)
    return {one: policy.probability(one, WORD if one in HARD else WORD[0]) for one in (*EASY, *HARD)}


@pytest.mark.parametrize("seed", range(3))
def test_the_soft_variant_learns_both_kinds(seed):
    found = variant("hpt_soft", seed)
    assert min(found[one] for one in HARD) > 0.5 and min(found[one] for one in EASY) > 0.8, found


@pytest.mark.parametrize("seed", range(3))
def test_a_demonstration_among_the_completions_moves_hard_questions_slowly(seed):
    """One row of nine, shaped: several times what there is without it, far from the 0.6 of the switch."""
    found, alone = variant("hpt_off_policy", seed), variant("hpt_off_policy", seed, "rollout.gate=-1")
    assert all(3 * alone[one] < found[one] < 0.1 for one in HARD), (found, alone)
    assert all(found[one] > 0.8 for one in EASY), found
