"""Prompts without labels: on four the likeliest of six answers is right, on four another one is likelier."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlpost.types import Prompt, Rollout, Task
from tests import toy

START = torch.tensor([[0.45, 0.2, *[0.0875] * 4]] * 4 + [[0.3, 0.4, *[0.075] * 4]] * 4)


class Ended(NamedTuple):
    """The right answer's probability where it is the likeliest and where another is, and the entropy at 4 times."""

    led: float
    trailed: float
    entropies: list[float]


@functools.cache
def _method(name: str):
    return toy.recipe(name)


def trained(name: str, seed: int, reward: Callable[[Sequence[Rollout]], Sequence[float]] | None) -> Ended:
    """30 steps with a reward of completions, or with the right answer (number 0) as label."""
    logits, entropies = START.log(), []

    def score(prompt: Tensor, tokens: Tensor) -> Tensor:
        if reward is None:
            return (tokens == 0).float()
        pairs = zip(prompt.tolist(), tokens[:, 0].tolist(), strict=True)
        rows = [Rollout(Task(f"t{p}", ()), f"{p}", Prompt([]), [a], [True], [0.0], str(a), "eos") for p, a in pairs]
        return torch.tensor(reward(rows))[:, None]

    def look(*_: object) -> None:
        entropies.append(torch.special.entr(logits.detach().softmax(-1)).sum(-1).mean().item())

    toy.train(
        logits, score, _method(name), steps=30, lr=4.0, seed=seed, n=10, observe=look, reference=START.log()
    )  # fmt: skip
    look()
    right = logits.detach().softmax(-1)[:, 0]
    return Ended(right[:4].mean().item(), right[4:].mean().item(), entropies[::10])
