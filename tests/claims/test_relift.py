"""relift: questions that rollouts never solve are learnt from a few demonstrations of just those questions."""

import pytest
import torch

from rlpost.config import build, compose
from rlpost.types import Outcome, Task
from tests.claims import mixed

QUESTIONS, HARD, S = 60, 4, 4
OVERRIDES = [f"aux.hardest.rows={S}", "rollout.max_tokens=1"]


def learnt(demonstrate, seed):
    """Final probabilities of the right arm, least of each kind of question, and the demonstrations that were used.

    Ten arms, arm 0 right, with probability 0.3 at the start; on the last questions with 1e-6.
    """
    p = torch.tensor([0.3] * (QUESTIONS - HARD) + [1e-6] * HARD)
    logits = torch.zeros(QUESTIONS, 10)
    logits[:, 0] = (9 * p / (1 - p)).log()
    buffer = build(compose("grpo", ["recipe=relift"]).tree["aux"]["hardest"]["curriculum"])
    buffer.start([Task(str(i), ()) for i in range(QUESTIONS)])
    used = []

    def demonstrations(step, rewards):
        went = [Outcome(str(i), 16, float(r.mean()), 0.0, float(r.max()), 16, step) for i, r in enumerate(rewards)]
        buffer.observe(went, {})
        chosen = buffer.pick(S, None) if demonstrate else []
        used.extend(chosen)
        return (torch.tensor(chosen), torch.zeros(len(chosen), dtype=torch.long)) if chosen else None

    right = lambda _, tokens: (tokens == 0).float()  # noqa: E731
    found = mixed.run(
        logits, right, "relift", OVERRIDES, demonstrations=demonstrations, steps=60, lr=64.0, seed=seed, n=16
    )[:, 0]
    return found[:-HARD].min().item(), found[-HARD:].min().item(), len(used)


@pytest.mark.parametrize("seed", range(3))
def test_unreachable_questions_are_solved_after_a_flush(seed):
    easy, hard, used = learnt(True, seed)
    alone, never, _ = learnt(False, seed)
    assert never < 1e-4 and hard > 0.9 and easy > 0.9 and alone > 0.9
    assert used < 0.15 * QUESTIONS
