"""long_cot_cosine: solved questions shorten and unsolved ones lengthen, and repeated n-grams die out."""

import functools
from dataclasses import replace

import pytest
import torch

from tests import toy

LENGTHS = torch.tensor([10, 30, 50, 70, 90])
EASY, HARD = 0, 1


@functools.cache
def recipe():
    return toy.recipe("long_cot_cosine", "rollout.max_tokens=100")


def mean_lengths(seed, shaping):
    """Mean length of a question that is always solved and of one that never is, from even odds."""
    logits = torch.zeros(2, len(LENGTHS))
    toy.train(
        logits, lambda q, t: (q == EASY).float()[:, None], replace(recipe(), shaping=shaping), steps=30, lr=1.0,
        seed=seed, n=32, more=lambda t: {"length": LENGTHS[t[:, 0]], "reward_names": ("correct",)},
    )  # fmt: skip
    return (logits.detach().softmax(-1) @ LENGTHS.float()).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_solved_questions_shorten_and_unsolved_ones_lengthen(seed):
    easy, hard = mean_lengths(seed, recipe().shaping)
    assert easy < 25 and hard > 80, (easy, hard)


def test_right_or_wrong_alone_says_nothing_of_length():
    """The baseline: the lengths of even odds, 50, stay."""
    assert mean_lengths(0, {}) == pytest.approx([50, 50], abs=1e-3)


def repeats(seed, penalty):
    """Repeats of pairs per completion of 12 tokens at first and at the end; one token starts at 0.86."""
    logits = torch.tensor([[4.0] + [0.0] * 9])
    counts = []

    def reward(prompt, tokens):
        there = torch.nn.functional.one_hot(tokens, 10).float()
        pairs = (there[:, :-1, :, None] * there[:, 1:, None, :]).sum(1)
        counts.append(float((pairs - 1).clamp(min=0).sum((1, 2)).mean()))
        return torch.ones(len(tokens), 1)

    advantage = functools.partial(recipe().advantage, ngram=2, penalty=penalty)
    method = replace(recipe(), shaping={}, advantage=advantage)
    toy.train(logits, reward, method, steps=30, lr=2.0, seed=seed, n=16, length=12)
    return counts[0], sum(counts[-5:]) / 5


@pytest.mark.parametrize("seed", range(3))
def test_repeated_pairs_die_out(seed):
    first, last = repeats(seed, 0.05)
    _, left = repeats(seed, 0.0)
    assert last < 0.5 * first and left > 0.8 * first, (first, last, left)
