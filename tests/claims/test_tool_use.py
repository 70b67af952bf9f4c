"""tool_use: what the environment says has no gradient, and a conversation trains alike as one row or a row per turn."""

import torch

from rlpost.stack import Reward, RewardStack
from tests import tabular
from tests.claims import looking


def gradients(recipe: str, *overrides: str):
    """Rows of one step, and the gradient with respect to each token's log-probability, by (task, trajectory)."""
    policy = tabular.Tabular(looking.SYMBOLS, looking.start(), looking.state, seed=3)
    knobs = [looking.LOOKS, "rollout.max_tokens=2", "advantage.epsilon=1e-4", *overrides]
    collect, method, sampling, n = tabular.collected(recipe, *knobs)
    stack = RewardStack({"right": Reward(lambda rows: [looking.right(row) for row in rows])})
    rollouts = collect(looking.TASKS, tabular.context(policy, stack, sampling, n))
    score, kept = policy.score, []

    def watched(rows, width):
        logp, entropy = score(rows, width)
        if logp.requires_grad:
            logp.retain_grad()
            kept.append(logp)
        return logp, entropy

    policy.score = watched
    tabular.context(policy, stack, sampling, n).score(rollouts)
    tabular.objective(policy, rollouts, method, stack).backward()
    return rollouts, kept[-1].grad, policy.logits.grad


def test_observations_have_no_gradient():
    rollouts, grad, _ = gradients("tool_use")
    told = torch.zeros(grad.shape, dtype=torch.bool)
    for i, row in enumerate(rollouts):
        assert [s == "environment" for s in row.source] == [not trains for trains in row.trains]
        told[i, : len(row.tokens)] = torch.tensor([s == "environment" for s in row.source])
    assert told.any(-1).all() and (grad[told] == 0).all()
    assert (grad.ne(0).sum(-1) == 4).any(), "both utterances of two tokens train"


def test_one_row_or_a_row_per_turn():
    """The same samples: token_mean counts the same tokens, and a trajectory counts once in its group."""
    whole, _, together = gradients("tool_use")
    parts, _, apart = gradients(
        "tool_use", "rollout.rows=turn", "advantage._target_=rlpost.advantage.turns.trajectory_zscore"
    )
    assert [row.text for row in whole] == [row.text for row in parts if row.role == "policy"]
    assert len(parts) == 2 * len(whole) and together.abs().max() > 1e-3
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-7)
