"""chord: demonstrations teach what rollouts never find, and do not hold back what rollouts do better."""

import pytest
import torch

from tests.claims import mixed

# Six questions with ten arms, arm 0 right. Rollouts find it on four; on the other two only demonstrations do. Where
# rollouts find it, half of the demonstrations are wrong.
FOUND, HIDDEN = slice(0, 4), slice(4, 6)
CONSTANT = ["schedules.mu={_target_: rlpost.schedule.constant, value: 0.5}"]


def start():
    logits = torch.zeros(6, 10)
    p = torch.tensor([0.2] * 4 + [1e-4] * 2)
    logits[:, 0] = (9 * p / (1 - p)).log()
    return logits


def learnt(recipe, overrides, seed):
    """Final probabilities of the right arm: the mean over both kinds of question."""
    rng = torch.Generator().manual_seed(seed)

    def demonstrations(step, rewards):
        prompt = torch.randint(0, 6, (12,), generator=rng)
        wrong = (torch.rand(12, generator=rng) < 0.5) & (prompt < 4)
        return prompt, wrong.long()

    right = lambda _, tokens: (tokens == 0).float()  # noqa: E731
    p = mixed.run(start(), right, recipe, overrides, demonstrations=demonstrations, steps=400, lr=4.0, seed=seed)[:, 0]
    return p[FOUND].mean().item(), p[HIDDEN].mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_a_share_that_decays_solves_both_kinds(seed):
    grpo, constant, mu = (learnt(*how, seed) for how in (("grpo", []), ("chord", CONSTANT), ("chord", [])))
    assert grpo[0] > 0.99 and grpo[1] < 0.01, "rollouts never find the hidden ones"
    assert constant[1] > 0.99 and constant[0] < grpo[0] - 0.1, "a constant share holds the policy to wrong answers"
    assert mu[1] > 0.99 and mu[0] > constant[0] + 0.1 and mu[0] > grpo[0] - 0.02


@pytest.mark.parametrize("seed", range(3))
def test_phi_holds_nothing_back_and_cannot_teach_what_the_policy_never_says(seed):
    """At probability 1e-4 its weight is 1e-4: the hidden questions stay hidden, which mu alone solves."""
    found, hidden = learnt("chord_phi", [], seed)
    assert found > 0.99 and hidden < 0.01
