"""A critic with weights of its own: the policy's trunk as it is at the start, and a scalar head."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.likelihood.scoring import Rows, states
from rlpost.models.unwrap import unwrap
from rlpost.types import NT, Ids, Loss, Mask


class Separate:
    """A copy of the policy's trunk says before every token what the completion will earn, and learns it beside it.

    Equation:
        V_t = w . h(x, y_<t) + b;  clipped = old V_t + clamp(V_t - old V_t, -clip, clip)
        value loss = coef * mean over the step's tokens of max((V_t - returns_t)^2, (clipped - returns_t)^2) / 2

    Gradient:
        That of the value loss for trunk and head, followed by an AdamW of their own (no weight decay) when the policy's
        optimizer steps; none for the policy. Norms above max_grad_norm are scaled down.

    Reduces to:
        the squared error at an infinite clip; an advantage without a baseline until the first update, for w = b = 0.

    Edge cases:
        `tokens` trained: the tokens that train; all: also given ones, in rows where a token trains, which then get
        values and a value loss but no policy gradient. Under an adapter the critic trains an adapter of its own. It has
        as many weights to keep as the policy, and is not sharded: refused under FSDP and DeepSpeed.

    Paper:
        Proximal Policy Optimization Algorithms, arXiv 1707.06347. The clip is that of its code for Atari and of
        InstructGPT's (arXiv 2203.02155) successors. Assumed: a head of zeros, learning_rate 1e-5.
    """

    def __init__(
        self,
        *,
        tokens: Literal["trained", "all"] = "trained",
        learning_rate: float = 1e-5,
        clip: float = 0.2,
        max_grad_norm: float = 1.0,
    ) -> None:
        if clip <= 0 or max_grad_norm <= 0:
            raise ConfigError(f"critic: clip={clip} and max_grad_norm={max_grad_norm} must be above 0; inf sets none")
        self.tokens, self.learning_rate = tokens, learning_rate
        self.clip, self.max_grad_norm = clip, max_grad_norm

    def network(self, policy: Any) -> "Network":
        """A new critic from the policy as it is now."""
        return Network(policy)

    def looks_at(self, mask: Mask, length: Ids) -> Mask:
        """The tokens before which it says a value."""
        if self.tokens == "trained":
            return mask
        return (torch.arange(mask.shape[1]) < length[:, None]) & mask.any(-1, keepdim=True)

    def loss(self, value: NT, old_value: NT, returns: NT) -> Loss:
        """`clipped_error` with the critic's own clip."""
        return clipped_error(value, old_value, returns, clip=self.clip)


def clipped_error(value: NT, old_value: NT, returns: NT, *, clip: float = 0.2) -> Loss:
    """Half the squared error of a value, or of it held near the old one where that is worse."""
    held = old_value + (value - old_value).clamp(-clip, clip)
    error, far = (value - returns) ** 2, (held - returns) ** 2
    return Loss(torch.maximum(error, far) / 2, {"value_clipped": (far > error).detach().to(value.dtype)})


class Network(torch.nn.Module):
    """`forward(rows)` is one value per token of the mask, in row-major order, float32 or better.

    What the policy keeps fixed is fixed here.
    """

    def __init__(self, policy: Any) -> None:
        super().__init__()
        inner = unwrap(policy)
        self.trunk = copy.deepcopy(inner.base_model)
        first = next(inner.parameters())
        dtype = torch.promote_types(first.dtype, torch.float32)
        width = inner.get_output_embeddings().weight.shape[1]
        self.head = torch.nn.Linear(width, 1, device=first.device, dtype=dtype)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, rows: Rows) -> Tensor:
        return self.head(states(self.trunk, rows.ask, rows.inputs).to(self.head.weight.dtype))[:, 0]
