"""Small models for the claims of supervised and preference methods."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from rlpost.types import Loss


def shared_features(loss: Callable[..., Loss], seed: int, steps: int = 100, length: int = 3) -> tuple[float, float]:
    """Train a linear softmax policy on 8 pairs of random answers, whose tokens share features.

    Returns how much the log-likelihood of the chosen answers rose, and how much their margin did.
    """
    rng = torch.Generator().manual_seed(seed)
    embedding, context = torch.randn(20, 4, generator=rng), torch.randn(8, 4, generator=rng)
    chosen, rejected = torch.randint(0, 20, (2, 8, length), generator=rng).unbind(0)
    matrix = (0.5 * torch.randn(4, 4, generator=rng)).requires_grad_()

    def logp(tokens: Tensor) -> Tensor:
        return log_softmax(context @ matrix @ embedding.T, -1).gather(-1, tokens)

    mask = torch.ones(8, length, dtype=torch.bool)
    start, other = logp(chosen).detach(), logp(rejected).detach()
    optimizer = torch.optim.SGD([matrix], lr=1.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(logp(chosen), logp(rejected), mask, mask, start, other).value.mean().backward()
        optimizer.step()
    rise = (logp(chosen) - start).sum(-1).mean().item()
    return rise, rise - (logp(rejected) - other).sum(-1).mean().item()


def noisy_labels(loss: Callable[[Tensor, Tensor], Loss], seed: int, steps: int = 500) -> tuple[float, float, float]:
    """Fine-tune a table of 40 contexts on labels drawn from the base, a tenth of them its least likely token.

    Returns KL(base || policy), the mean probability of the good labels and that of the odd ones.
    """
    from rlpost.divergence.full import forward_kl

    rng = torch.Generator().manual_seed(seed)
    base = 2 * torch.randn(40, 10, generator=rng)
    label = torch.multinomial(base.softmax(-1), 1, generator=rng)
    odd = torch.rand(40, generator=rng) < 0.1
    label[odd] = base[odd].argmin(-1, keepdim=True)
    logits = base.clone().requires_grad_()
    optimizer = torch.optim.SGD([logits], lr=4.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(log_softmax(logits, -1).gather(-1, label), forward_kl(base, logits)[:, None]).value.mean().backward()
        optimizer.step()
    p = log_softmax(logits.detach(), -1).gather(-1, label).exp()
    return forward_kl(base, logits).mean().item(), p[~odd].mean().item(), p[odd].mean().item()
