"""trust_grpo: a judge that is wrong on half of the prompts costs no accuracy; the same judge added plainly does."""

import pytest
import torch

from tests import toy

PROMPTS, ARMS = 8, 6


def judgements(seed):
    """What the judge says of each arm, arm 0 being right: sound on even prompts, against the truth on odd ones."""
    rng = torch.Generator().manual_seed(seed)
    wrong = torch.randint(0, 4, (PROMPTS, ARMS), generator=rng) / 10.0
    wrong[:, 0] = torch.randint(7, 11, (PROMPTS,), generator=rng) / 10.0
    wrong[1::2] = 1.0 - wrong[1::2]
    wrong[1::2, 0], wrong[1::2, 1] = 0.0, 1.0
    return wrong


def accuracy(method, seed, *, judged):
    """Mean probability of the right arm after training from equal probabilities."""
    verdict, logits = judgements(seed), torch.zeros(PROMPTS, ARMS)

    def reward(prompt, tokens):
        right = (tokens == 0).float()
        return torch.cat([right, verdict[prompt].gather(1, tokens)], dim=1) if judged else right

    toy.train(logits, reward, method, steps=60, lr=8.0, seed=seed)
    return logits.softmax(-1)[:, 0].mean().item()


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_with_a_judge_that_contradicts_the_outcomes(seed):
    trusting = toy.recipe("trust_grpo", "shaping.trust.outcome=r0", "shaping.trust.judged=r1")
    trust = accuracy(trusting, seed, judged=True)
    outcome = accuracy(toy.recipe("grpo"), seed, judged=False)
    plain = accuracy(toy.recipe("grpo"), seed, judged=True)
    assert trust > outcome - 0.05, (trust, outcome)
    assert trust > plain + 0.1, (trust, plain)
