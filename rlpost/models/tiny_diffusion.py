"""A random masked-diffusion language model built from its configuration: it reads both ways and fills masks."""

from typing import Any, Literal

from rlpost.errors import ConfigError
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.tiny import _build, byte_tokenizer

MASK = "<|mask|>"


def diffusion_tiny(
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    context: int = 2048,
    family: Literal["llama", "qwen2"] = "llama",
) -> Bundle:
    """A random Llama or Qwen2 of about thirty thousand parameters whose tokens see all others, with a mask token.

    Its configuration says `is_causal: false`, which transformers' attention obeys, and `mask_token_id`; both are saved
    with it, so that a folder of its weights is a masked-diffusion model again.

    Edge cases: one token per byte, as model=tiny. The mask is never sampled.
    """
    if hidden % (2 * heads):
        raise ConfigError(f"model.hidden must be a multiple of 2 * model.heads, it is {hidden} with {heads} heads")
    tokenizer = byte_tokenizer((MASK,))
    tokenizer.mask_token = MASK
    model = _build(
        len(tokenizer), tokenizer, seed=seed, hidden=hidden, layers=layers, heads=heads, context=context, family=family
    )
    config: Any = model.config
    config.is_causal, config.mask_token_id = False, tokenizer.mask_token_id
    return Bundle(
        model, Encoder(tokenizer), f"tiny-diffusion-{family}", f"tiny-diffusion:{family}:{hidden}x{layers}:{seed}"
    )
