"""Loops over stages in miniature: a table of logits (prompts, arms) answers with one arm, builds make the data.

The builds and losses are rlpost's own; only sampling and the optimizer are the toy's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlpost.sft_loss.token import nll
from rlpost.types import Rollout, Task
from tests.build.rows import said

Reward = Callable[[int, int], float]


def answers(logits: Tensor, k: int, generator: torch.Generator, reward: Reward, *, times: int = 1) -> list[Rollout]:
    """`k` answers of every prompt as completions, the arm as text; `times` groups of each prompt."""
    arms = torch.multinomial(logits.detach().softmax(-1), k * times, replacement=True, generator=generator).tolist()
    return [
        said(str(prompt), str(arm), reward(prompt, arm), group=f"{prompt}.{place // k}")
        for prompt, row in enumerate(arms)
        for place, arm in enumerate(row)
    ]


def teach(logits: Tensor, rows: Sequence[Task], *, lr: float, steps: int = 1) -> None:
    """Supervised steps on demonstrations, in place."""
    prompt = torch.tensor([int(row.id) for row in rows])
    arm = torch.tensor([int(row.demonstration) for row in rows])
    descend(logits, lambda logp: nll(logp[prompt, arm][:, None]).value.mean(), lr=lr, steps=steps)


def prefer(
    logits: Tensor, reference: Tensor, rows: Sequence[Task], loss: Callable[..., object], *, lr: float, steps: int = 1,
    facts: Sequence[str] = (),
) -> None:  # fmt: skip
    """Preference steps on pairs, in place; `facts` are the columns that the loss reads after the reference."""
    prompt = torch.tensor([int(row.id) for row in rows])
    arms = [torch.tensor([int(row.columns[name]) for row in rows]) for name in ("chosen", "rejected")]
    mask = torch.ones(len(rows), 1, dtype=torch.bool)
    held = [torch.log_softmax(reference.detach(), -1)[prompt, arm][:, None] for arm in arms]
    numbers = [torch.tensor([row.columns[name] for row in rows], dtype=logits.dtype) for name in facts]

    def value(logp: Tensor) -> Tensor:
        now = [logp[prompt, arm][:, None] for arm in arms]
        return loss(*now, mask, mask, *held, *numbers).value.mean()

    descend(logits, value, lr=lr, steps=steps)


def descend(logits: Tensor, value: Callable[[Tensor], Tensor], *, lr: float, steps: int) -> None:
    """Plain gradient steps on a function of the log-probabilities."""
    for _ in range(steps):
        logits.requires_grad_(True)
        gradient = torch.autograd.grad(value(torch.log_softmax(logits, -1)), logits)[0]
        logits.requires_grad_(False).sub_(lr * gradient)
