"""What the kernels of the head and the two ways of working on a block of logits share."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

# The logit of an excluded id: its exponential is 0 and, unlike infinity, 0 times it is 0.
NEVER = -1e30


@dataclass(frozen=True)
class Link:
    """How logits z come from the products r = h W' + b: softcap * tanh(r / softcap) / temperature, banned ids out."""

    temperature: float = 1.0
    softcap: float | None = None
    banned: tuple[int, ...] = ()

    def slope(self, z: Tensor) -> Tensor:
        """dz/dr times the temperature, from z: 1 - tanh^2. Only where there is a softcap."""
        assert self.softcap is not None
        return 1 - (z * (self.temperature / self.softcap)).square()


class Part(NamedTuple):
    """What one block says about the rows: K partial maxima, sums of e = exp(z - peak) and of e (z - peak)."""

    block: Tensor
    peak: Tensor  # (K,M)
    mass: Tensor  # (K,M)
    moment: Tensor  # (K,M)


class Upstream(NamedTuple):
    """Per row: the gradients that arrive (`entropy` None if none does) and the row's statistics."""

    logp: Tensor  # (M,)
    entropy: Tensor | None  # (M,)
    norm: Tensor  # (M,) logsumexp(z)
    mean: Tensor  # (M,) entropy of the row
    target: Tensor  # (M,) logit of the row's token, -inf if banned


def blocks_of(hidden: Tensor) -> Any:
    """The class that works on blocks: Triton kernels on CUDA, torch operations elsewhere and for float64."""
    from rlpost.kernels.torch_logp import TorchBlocks

    if hidden.device.type == "cuda" and hidden.dtype != torch.float64:
        try:
            from rlpost.kernels.triton_logp import TritonBlocks
        except ImportError:  # torch for Windows comes without Triton
            return TorchBlocks
        return TritonBlocks
    return TorchBlocks


def refuse_second_derivative(name: str) -> None:
    """Raise RuntimeError in a backward pass with create_graph=True, whose result would silently count as a constant."""
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name} has no second derivative; use rlpost.kernels.eager.{name} under create_graph=True")
