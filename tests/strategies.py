"""Inputs for property tests: ragged masks and a value for every field that a loss may name."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

# A busy machine is no failure: time is not what these properties are about.
settings.register_profile("rlpost", deadline=None, max_examples=30)
settings.load_profile("rlpost")

seeds = st.integers(0, 10_000)
sizes = st.tuples(st.integers(1, 6), st.integers(1, 7))


def ragged(n: int, t: int, seed: int) -> Tensor:
    """A mask (N,T) whose rows have different lengths, at least one token each, with a hole where there is room."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, t + 1, (n, 1), generator=rng)
    mask = torch.arange(t) < lengths
    if t > 2:
        mask[0, 1] = False
    return mask


def field(name: str, n: int, t: int, seed: int, spread: float = 1.0) -> Tensor | tuple[str | tuple[str, ...], ...]:
    """A float64 value for a field of TokenBatch, PairBatch or ScoreBatch. `spread` scales distances between models."""
    rng = torch.Generator().manual_seed(seed * 1009 + sum(map(ord, name)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    if name.endswith("mask"):
        return ragged(n, t, seed + len(name))
    if name.endswith("logp"):
        return -0.05 - spread * normal(n, t).abs()
    if name.endswith("divergence") or name.endswith("entropy"):
        return normal(n, t).abs()
    if name == "advantage":
        return normal(n, 1).expand(n, t).clone()
    if name == "stop":
        return tuple(("eos", "length", "tool")[(i + seed) % 3] for i in range(n))
    if name == "role":
        return tuple(("rethought", "policy", "expert")[(i + seed) % 3] for i in range(n))
    if name == "source":
        return tuple(
            tuple(("policy", "expert", "environment")[(i * t + k + seed) % 3] for k in range(t)) for i in range(n)
        )
    if name == "reward":
        # Right and wrong rows by turns, so that a group of two has one of each; graded around 0 and 1.
        return (torch.arange(n) + seed) % 2 + 0.1 * normal(n).tanh()
    if name == "group":
        return torch.arange(n) // 2
    if name == "trajectory":
        return torch.arange(n) // 4 % 3 - 1  # none, and both rows of a group on one
    if name.endswith("score") or name == "margin":
        return spread * normal(n)
    if name in ("chosen_reward", "rejected_reward"):
        return normal(n)
    if name.endswith("_win") or name == "consistency":
        return torch.rand(n, generator=rng, dtype=torch.float64)
    raise KeyError(f"no strategy makes the field {name!r}; add one to tests/strategies.py")
