"""A toy loop in the shape of a real run: a softmax policy with a row of logits per prompt, and rlpost's own step.

A completion is `length` tokens drawn from the row of its prompt; `reward(prompt, tokens) -> (N,K)` scores it. A claim
about a method needs no more than this, and runs in seconds.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical

from rlpost import assemble, step
from rlpost.config import compose
from rlpost.step import Method
from rlpost.types import Scored, TokenBatch

# What a batch takes over from scored rows, as in a real run.
CARRIED = (
    "tokens", "mask", "old_logp", "advantage", "group", "gen_logp", "ref_logp", "reward", "length", "role", "stop",
    "turn", "trajectory", "index", "age", "span", "source",
)  # fmt: skip


def recipe(name: str, *overrides: str) -> Method:
    """The method of a published recipe, built from its YAML as `rlpost grpo` builds it."""
    return assemble.method(composed(f"recipe={name}", *overrides))


def composed(*overrides: str) -> dict[str, Any]:
    """The values of `rlpost grpo` with these overrides; a test asks for the same ones with each seed."""
    return copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose("grpo", overrides).tree


def scored(
    rewards: Tensor,
    group: Tensor,
    mask: Tensor,
    old_logp: Tensor,
    weights: Sequence[float] | None = None,
    **more: object,
) -> Scored:
    """A `Scored` record of plain single-turn rows; `more` sets or replaces fields."""
    n, k = rewards.shape
    rows, zeros, none = torch.arange(n), torch.zeros(n, dtype=torch.long), -torch.ones(n, dtype=torch.long)
    plain = {
        "rewards": rewards, "weights": torch.tensor(weights or [1.0] * k), "group": group, "length": mask.sum(-1),
        "reward_names": tuple(f"r{i}" for i in range(k)), "role": ("policy",) * n, "stop": ("eos",) * n, "parent": none,
        "fork": zeros, "trajectory": rows, "index": zeros, "turn": zeros, "age": zeros, "mask": mask,
        "tokens": torch.zeros_like(mask).long(), "span": -torch.ones_like(mask).long(),
        "source": (("policy",) * mask.shape[1],) * n, "gen_logp": old_logp, "old_logp": old_logp,
    }  # fmt: skip
    return Scored(**(plain | more))


def batch(credit: Scored, logp: Tensor, rows: Tensor | None = None, **more: object) -> TokenBatch:
    """The micro-batch of the given rows of scored credit."""
    part = credit if rows is None else step.take(credit, rows)
    return TokenBatch(**({name: getattr(part, name) for name in CARRIED} | {"logp": logp} | more))


def train(
    logits: Tensor, reward: Callable[[Tensor, Tensor], Tensor], method: Method, *, steps: int, lr: float, seed: int,
    prompts: Callable[[int], Sequence[int]] | None = None, n: int = 8, length: int = 1, updates: int = 1,
    observe: Callable[[Sequence[int], Scored], None] | None = None,
    behaviour: Tensor | None = None, reference: Tensor | None = None,
    more: Callable[[Tensor], dict[str, object]] | None = None,
) -> list[float]:  # fmt: skip
    """Train `logits (prompts, V)` in place; returns the mean total reward of the samples of each step.

    `prompts(step)` names the prompts of a step (default: all), `updates` the optimizer steps on the same samples.
    `behaviour` and `reference` are logits of other policies that sample and that are the reference (default: the policy
    of the step's start). `more(tokens)` gives fields that scored rows have beside the plain ones, such as spans.
    """
    torch.manual_seed(seed)
    logits.requires_grad_(True)
    optimizer, history = torch.optim.SGD([logits], lr=lr), []
    for i in range(steps):
        picked = list(prompts(i)) if prompts else list(range(len(logits)))
        prompt = torch.tensor(picked).repeat_interleave(n)
        sampler = logits.detach().clone() if behaviour is None else behaviour
        tokens = Categorical(logits=sampler[prompt]).sample((length,)).T
        rewards = reward(prompt, tokens)
        old = logp_of(sampler, prompt, tokens)
        ref = old if reference is None else logp_of(reference, prompt, tokens)
        group = torch.arange(len(picked)).repeat_interleave(n)
        plain = {"mask": torch.ones_like(tokens, dtype=torch.bool), "tokens": tokens, "ref_logp": ref}
        record = scored(rewards, group, old_logp=old, **(plain | (more(tokens) if more else {})))
        credit = step.score(record, method)
        history.append(float(step.total_reward(rewards, record.weights).mean()))
        if observe:
            observe(picked, credit.scored)
        for _ in range(updates if len(credit.scored.mask) else 0):
            kept = batch(credit.scored, logp_of(logits, prompt[credit.keep], tokens[credit.keep]))
            counts = step.counts(credit.scored)
            optimizer.zero_grad()
            step.loss(kept, method, counts, means=step.measure(kept, method, counts))[0].backward()
            optimizer.step()
    return history


def logp_of(logits: Tensor, prompt: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of each token (N,T)."""
    return torch.log_softmax(logits, -1)[prompt].gather(-1, tokens)


def push(name: str, lengths: Sequence[int], rewards: Sequence[float], max_tokens: int = 20) -> Tensor:
    """How hard a recipe pushes one token of each row of a group, on policy: |gradient| with respect to its logp."""
    method = recipe(name, f"rollout.max_tokens={max_tokens}")
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    old = -torch.ones(mask.shape)
    record = scored(torch.tensor(rewards)[:, None], torch.zeros(len(lengths), dtype=torch.long), mask, old)
    credit = step.score(record, method).scored
    logp = old.clone().requires_grad_()
    one, counts = batch(credit, logp), step.counts(credit)
    value, _ = step.loss(one, method, counts, means=step.measure(one, method, counts))
    return torch.autograd.grad(value, logp)[0][:, 0].abs()
