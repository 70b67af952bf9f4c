"""Log-probabilities, entropies and divergences straight from hidden states: the oracle of every faster kernel.

Logits of a chunk of rows exist only while that chunk is worked on; the backward pass computes them again.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Bytes of float32 logits that one chunk may hold.
CHUNK_BYTES = 1 << 28


def linear_logp(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    tokens: Int[Tensor, "M"],
    *,
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
    softcap: float | None = None,
    banned: Sequence[int] = (),
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """Log-probability (nats) of `tokens` and entropy of the next-token distribution, both differentiable, float32.

    Equation:
        z = softcap * tanh((h W' + b) / softcap) / temperature
        logp = z_y - logsumexp(z);  H = logsumexp(z) - sum_v p_v z_v
    Edge cases:
        `banned` ids have probability 0, as when sampling suppresses them. No rows: two empty tensors.
    """
    parts = [
        _chunk(_logp_entropy, h, head, bias, tokens[rows], temperature, softcap, tuple(banned))
        for h, rows in _chunks(hidden, head)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def linear_divergence(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    other_hidden: Float[Tensor, "M D"],
    other_head: Float[Tensor, "V D"],
    *,
    divergence: Callable[[Tensor, Tensor], Tensor],
    temperature: float = 1.0,
) -> Float[Tensor, "M"]:
    """Full-vocabulary divergence between the policy (`hidden`, `head`, with gradient) and another model, per row."""
    parts = [
        _chunk(_divergence, h, head, other_hidden[rows], other_head, divergence, temperature)
        for h, rows in _chunks(hidden, head)
    ]
    return torch.cat(parts)


def _chunks(hidden: Tensor, head: Tensor):
    size = max(1, CHUNK_BYTES // (4 * head.shape[0]))
    for start in range(0, max(1, len(hidden)), size):
        rows = slice(start, start + size)
        yield hidden[rows], rows


def _chunk(function: Callable, hidden: Tensor, *args):
    if torch.is_grad_enabled() and len(hidden) * args[0].shape[0] * 4 > CHUNK_BYTES // 2:
        return checkpoint(function, hidden, *args, use_reentrant=False)
    return function(hidden, *args)


def _logits(hidden, head, bias, temperature, softcap, banned):
    z = torch.nn.functional.linear(hidden, head, bias)
    z = z if z.dtype == torch.float64 else z.float()
    if softcap:
        z = softcap * torch.tanh(z / softcap)
    z = z / temperature
    if banned:
        z = z.index_fill(-1, torch.tensor(banned, device=z.device), float("-inf"))
    return z


def _logp_entropy(hidden, head, bias, tokens, temperature, softcap, banned):
    z = _logits(hidden, head, bias, temperature, softcap, banned)
    norm = torch.logsumexp(z, -1)
    p = torch.softmax(z, -1)
    # A banned logit is -inf and its probability 0: the product must count as 0, and its gradient at any loss scale.
    mean_z = (p * z.masked_fill(z == float("-inf"), 0.0)).sum(-1)
    return z.gather(-1, tokens[:, None])[:, 0] - norm, norm - mean_z


def _divergence(hidden, head, other_hidden, other_head, divergence, temperature):
    """Divergences take the frozen model first and the policy second."""
    q = torch.nn.functional.linear(hidden, head).float() / temperature
    p = torch.nn.functional.linear(other_hidden, other_head).float() / temperature
    return divergence(p, q)
