"""A toy run with an auxiliary stream: the softmax policy of tests/toy.py, rollouts and demonstrations in one step."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical

from rlpost import assemble, step
from rlpost.types import Counts, TokenBatch
from tests import toy

# Rows of logits and the arms that demonstrations chose there.
Demonstrations = tuple[Tensor, Tensor]


def run(
    logits: Tensor, reward: Callable[[Tensor, Tensor], Tensor], recipe: str, overrides: list[str], *,
    demonstrations: Callable[[int, Tensor], Demonstrations | None], steps: int, lr: float, seed: int, n: int = 8,
) -> Tensor:  # fmt: skip
    """Train `logits (prompts, V)` in place on one-token completions; returns the final probabilities.

    `demonstrations(step, rewards (prompts, n))` says what the stream holds in a step, None for nothing.
    """
    tree = toy.composed(f"recipe={recipe}", *overrides)
    method = assemble.method(tree)
    streams = [assemble.stream(name, node) for name, node in (tree["aux"] or {}).items()]
    torch.manual_seed(seed)
    logits.requires_grad_(True)
    optimizer = torch.optim.SGD([logits], lr=lr)
    prompt = torch.arange(len(logits)).repeat_interleave(n)
    for i in range(steps):
        now = {"step": i, "progress": i / steps}
        tokens = Categorical(logits=logits.detach()[prompt]).sample()[:, None]
        old = toy.logp_of(logits.detach(), prompt, tokens)
        rewards = reward(prompt, tokens)
        record = toy.scored(
            rewards, prompt, torch.ones_like(tokens, dtype=torch.bool), old, tokens=tokens, ref_logp=old
        )
        credit = step.score(record, method, **now)
        rows, entropy = prompt[credit.keep], Categorical(logits=logits).entropy()[:, None]
        kept = toy.batch(credit.scored, toy.logp_of(logits, rows, tokens[credit.keep]), entropy=entropy[rows])
        loss = step.loss(kept, method, step.counts(credit.scored), **now)[0] if len(kept.mask) else logits.sum() * 0.0
        held = demonstrations(i, rewards.reshape(-1, n))
        for stream in streams if held is not None else []:
            loss = loss + step.loss(batch(logits, *held), stream, counts(len(held[0])), **now)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logits.detach().softmax(-1)


def batch(logits: Tensor, prompt: Tensor, arms: Tensor) -> TokenBatch:
    """Demonstrations of one token each as a stream's loss reads them."""
    logp = toy.logp_of(logits, prompt, arms[:, None])
    mask = torch.ones_like(logp, dtype=torch.bool)
    return TokenBatch(arms[:, None], mask, logp, logp.detach(), None, torch.arange(len(arms)))


def counts(n: int) -> Counts:
    """Those of n demonstrations of one token."""
    return Counts(rows=n, tokens=n, groups=n, pairs=n)
