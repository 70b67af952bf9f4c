"""Log-probabilities, entropies and divergences straight from hidden states: the oracle of the faster kernels.

Plain torch that holds all logits at once; `budget` is taken for the sake of the signature and has no effect.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def linear_logp(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    tokens: Int[Tensor, "M"],
    *,
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
    softcap: float | None = None,
    banned: Sequence[int] = (),
    budget: int | None = None,
) -> tuple[Float[Tensor, "M"], Float[Tensor, "M"]]:
    """Log-probability (nats) of `tokens` and entropy of the next-token distribution, both differentiable.

    float32, or float64 where `hidden` is float64.

    Equation:
        z = softcap * tanh((h W' + b) / softcap) / temperature
        logp = z_y - logsumexp(z);  H = logsumexp(z) - sum_v p_v z_v
    Edge cases:
        `banned` ids have probability 0, as when sampling suppresses them. No rows: two empty tensors.
    """
    z = _logits(hidden, head, bias, temperature, softcap)
    if banned:
        z = z.index_fill(-1, torch.tensor(list(banned), device=z.device), float("-inf"))
    norm = torch.logsumexp(z, -1)
    p = torch.softmax(z, -1)
    # A banned logit is -inf and its probability 0: the product must count as 0, and its gradient at any loss scale.
    mean_z = (p * z.masked_fill(z == float("-inf"), 0.0)).sum(-1)
    return z.gather(-1, tokens[:, None])[:, 0] - norm, norm - mean_z


def linear_divergence(
    hidden: Float[Tensor, "M D"],
    head: Float[Tensor, "V D"],
    other_hidden: Float[Tensor, "M E"],
    other_head: Float[Tensor, "V E"],
    *,
    divergence: Callable[[Tensor, Tensor], Tensor],
    temperature: float = 1.0,
    bias: Float[Tensor, "V"] | None = None,
    softcap: float | None = None,
    other_bias: Float[Tensor, "V"] | None = None,
    other_softcap: float | None = None,
    banned: Sequence[int] = (),
    budget: int | None = None,
) -> Float[Tensor, "M"]:
    """`divergence(p_logits, q_logits)` per row: p another model, without gradient, and q the policy (`hidden`, `head`).

    float32, or float64 where `hidden` is float64. `temperature` and `banned` hold for both models; `banned` ids are
    left out of the vocabulary that the divergence sees.
    """
    with torch.no_grad():
        p = _logits(other_hidden, other_head, other_bias, temperature, other_softcap)
    q = _logits(hidden, head, bias, temperature, softcap)
    if banned:
        allowed = torch.ones(head.shape[0], dtype=torch.bool, device=q.device)
        allowed[list(banned)] = False
        p, q = p[:, allowed], q[:, allowed]
    return divergence(p, q)


def _logits(hidden, head, bias, temperature, softcap):
    z = torch.nn.functional.linear(hidden, head, bias)
    z = z if z.dtype == torch.float64 else z.float()
    if softcap:
        z = softcap * torch.tanh(z / softcap)
    return z / temperature
