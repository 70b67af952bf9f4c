"""Teaches a language model's own `forward` to return log-probabilities instead of logits.

The head's weight is used inside `forward`, where data-parallel wrappers expect it, and only on the rows that train.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlpost.errors import ModelError
from rlpost.kernels import linear_divergence, linear_logp
from rlpost.kernels.layout import Layout
from rlpost.kernels.packed import hidden_states
from rlpost.models.unwrap import unwrap


class Scores(NamedTuple):
    """Of the tokens that train, in row-major order of the mask (M of them). `hidden` is detached."""

    logp: Float[Tensor, "M"]
    entropy: Float[Tensor, "M"]
    divergence: Float[Tensor, "M"] | None
    hidden: Float[Tensor, "M D"]


@dataclass(frozen=True)
class Ask:
    """What to compute: the mask of completion tokens that train, and optionally a divergence to another model.

    `layout` describes a packed row (kernels/prefix.py); `places` and `targets` (M,) say where in its hidden states each
    token is predicted, and `at_once` how many completions pass the model together (None: all). Without a layout the
    last columns of the inputs are the completions, a token is predicted `shift` columns before its place (1: from what
    is before it, 0: at its place), and `targets` are the tokens where the inputs do not hold them. `seeds`: one per
    row, of a likelihood that draws (`seeded`).
    """

    mask: Bool[Tensor, "N T"]
    temperature: float = 1.0
    banned: Sequence[int] = ()
    divergence: Callable[[Tensor, Tensor], Tensor] | None = None
    other_hidden: Any = None
    other_head: Any = None
    other_bias: Any = None
    layout: Layout | None = None
    places: Tensor | None = None
    targets: Tensor | None = None
    at_once: int | None = None
    shift: int = 1
    seeds: Sequence[str] = ()


@dataclass(frozen=True)
class Rows:
    """What a likelihood scores: padded inputs whose last columns are the completions, and what is asked of them."""

    inputs: dict[str, Tensor]
    ask: Ask


class Likelihood(NamedTuple):
    """Per completion token (N,T), 0 where a token does not train. `hidden` (M,D): states of the scored, detached."""

    logp: Float[Tensor, "N T"]
    entropy: Float[Tensor, "N T"]
    divergence: Float[Tensor, "N T"] | None
    hidden: Float[Tensor, "M D"]


def seeded(likelihood: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a likelihood that draws, from one seed per row: the same seeds give every policy the same draw."""
    setattr(likelihood, "is_seeded", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return likelihood


def is_seeded(likelihood: Callable[..., Any]) -> bool:
    """Whether a likelihood, or a partial of one, is marked as drawing from seeds."""
    return bool(getattr(getattr(likelihood, "func", likelihood), "is_seeded", False))


def left_to_right(model: Any) -> bool:
    """Whether a token of this model sees only what is before it; `is_causal: false` in its configuration says no."""
    return bool(getattr(unwrap(model).config.get_text_config(), "is_causal", True))


def mask_token(model: Any) -> int:
    """The id that stands for a token not yet known. Raises ModelError for a model that is no masked-diffusion model."""
    inner = unwrap(model)
    found = getattr(inner.config.get_text_config(), "mask_token_id", None)
    if left_to_right(inner) or found is None:
        raise ModelError(
            f"{type(inner).__name__} is no masked-diffusion model: its configuration needs is_causal false and a "
            "mask_token_id; pick one, such as model=diffusion_tiny, or a likelihood and a rollout that go left to right"
        )
    return found


def teach(model: Any) -> None:
    """Make `model(**inputs, ask=Ask(...))` return `Scores`; without `ask` the model is as before. Idempotent.

    Raises ModelError for a model without an output embedding.
    """
    inner = unwrap(model)
    if getattr(inner, "_rlpost_scores", False):
        return
    if inner.get_output_embeddings() is None:
        raise ModelError(f"{type(inner).__name__} has no language-model head, so it has no token log-probabilities")
    original = inner.forward

    def forward(self, *args: Any, ask: Ask | None = None, **inputs: Any) -> Any:
        return original(*args, **inputs) if ask is None else _scores(self, ask, inputs)

    inner.forward = types.MethodType(forward, inner)
    inner._rlpost_scores = True
    _agree(inner)


@torch.no_grad()
def _agree(model: Any) -> None:
    """Two tokens scored both ways: a model that changes its logits after the head must not be scored wrongly.

    Raises ModelError where the scores are not those of the model's own logits.
    """
    token = model.config.get_text_config().eos_token_id or 0
    ids = torch.full((1, 2), token[0] if isinstance(token, list) else token, device=next(model.parameters()).device)
    training = model.training
    model.eval()
    own = torch.log_softmax(model(input_ids=ids).logits[0, 0].float(), -1)[ids[0, 1]]
    found = model(input_ids=ids, ask=Ask(torch.ones(1, 1, dtype=torch.bool, device=ids.device))).logp[0]
    model.train(training)
    if abs(float(own - found)) > (1e-3 if model.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"{type(model).__name__} changes its logits after the language-model head in a way that rlpost does not "
            f"know (its own log-probability is {float(own):.4f}, from the head {float(found):.4f}); it cannot train"
        )


def head_weight(model: Any) -> Tensor:
    """The output embedding's weight (V,D)."""
    return unwrap(model).get_output_embeddings().weight


def against(ask: Ask, divergence: Callable[[Tensor, Tensor], Tensor], model: Any, hidden: Tensor) -> Ask:
    """The same question with a divergence to `model`, which gave the states `hidden` (M,D) for the same rows."""
    bias = getattr(unwrap(model).get_output_embeddings(), "bias", None)
    return replace(
        ask,
        divergence=divergence,
        other_hidden=hidden,
        other_head=head_weight(model).detach(),
        other_bias=None if bias is None else bias.detach(),
    )


def _scores(model: Any, ask: Ask, inputs: dict[str, Any]) -> Scores:
    rows = states(model.base_model, ask, inputs)
    targets = inputs["input_ids"][:, -ask.mask.shape[1] :][ask.mask] if ask.targets is None else ask.targets
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    scale = getattr(config, "logit_scale", None)
    softcap = getattr(config, "final_logit_softcapping", None)
    scaled = rows if scale is None else rows * scale
    logp, entropy = linear_logp(
        scaled,
        head.weight,
        targets,
        temperature=ask.temperature,
        bias=getattr(head, "bias", None),
        softcap=softcap,
        banned=ask.banned,
    )
    divergence = None
    if ask.divergence is not None:
        # The other model is of the same family: its logits are scaled and capped in the same way.
        other = ask.other_hidden if scale is None else ask.other_hidden * scale
        divergence = linear_divergence(
            scaled,
            head.weight,
            other,
            ask.other_head,
            divergence=ask.divergence,
            temperature=ask.temperature,
            bias=getattr(head, "bias", None),
            softcap=softcap,
            other_bias=ask.other_bias,
            other_softcap=softcap,
            banned=ask.banned,
        )
    return Scores(logp, entropy, divergence, rows.detach())


def states(trunk: Any, ask: Ask, inputs: dict[str, Tensor]) -> Float[Tensor, "M D"]:
    """What a model without its head knows where each token of the mask is predicted, in row-major order."""
    if ask.layout is None or ask.targets is None:
        hidden = trunk(**inputs, use_cache=False).last_hidden_state
        end = hidden.shape[1] - ask.shift
        return hidden[:, end - ask.mask.shape[1] : end][ask.mask]
    return hidden_states(trunk, inputs, ask.layout, ask.at_once)[0, ask.places]


def spread(values: Float[Tensor, "M"], mask: Bool[Tensor, "N T"]) -> Float[Tensor, "N T"]:
    """Put the values of the tokens that train back into an (N,T) table, 0 elsewhere; keeps the gradient."""
    return torch.zeros(mask.shape, dtype=values.dtype, device=values.device).masked_scatter(mask, values)
