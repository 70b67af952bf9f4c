"""expo: explanations that the policy writes knowing the answer lead to it where plain GRPO finds nothing."""

import pytest
import torch

from tests import tabular

PATHS, GOOD, ANSWER = "abcdefghijklmnopqrst", "g", "7"
ANSWERS = "0123456789"
SYMBOLS = PATHS + ANSWERS


def state(question: str, text: str) -> int:
    """The path is chosen unaided (0) or knowing the answer (1); the answer follows from the path."""
    if not text:
        return int("correct answer is" in question)
    return 2 + PATHS.index(text[0]) if text[0] in PATHS else 1


def right(rollout) -> float:
    return float(rollout.text.startswith(GOOD + ANSWER))


def start() -> torch.Tensor:
    """Unaided the good path has 0.01 and the answer after it 0.01: 1 in 10000. Knowing the answer, the path has 0.3."""
    logits = torch.full((2 + len(PATHS), len(SYMBOLS)), -20.0)
    for row, share in ((0, 0.01), (1, 0.3)):
        logits[row, : len(PATHS)] = 0.0
        logits[row, PATHS.index(GOOD)] = torch.log(torch.tensor(19 * share / (1 - share)))
    logits[2:, len(PATHS) :] = 0.0
    logits[2:, SYMBOLS.index(ANSWER)] = torch.log(torch.tensor(9 * 0.01 / 0.99))
    return logits


def reached(seed: int, beta: float) -> float:
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    knobs = [
        f"regularizer.expert_nll.coef={beta}", "rollout.max_tokens=1", "rollout.conclusion='{answer}'"
    ]  # fmt: skip
    tabular.train(
        policy, [tabular.task("q", ANSWER)], "expo_self_explanation", *knobs, right=right, steps=250, lr=50.0, seed=seed
    )
    return policy.probability("q", GOOD + ANSWER)


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_where_grpo_finds_nothing(seed):
    """beta 0 is GRPO on the same completions."""
    assert reached(seed, 0.04) > 0.1 and reached(seed, 0.0) < 0.001
