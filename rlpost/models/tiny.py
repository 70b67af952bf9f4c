"""Random models built from their configuration, with a tokenizer of their own: for tests and smoke runs."""

from typing import Any, Literal

import torch

from rlpost.errors import ConfigError
from rlpost.models.encode import Bundle, Encoder

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def text(
    *,
    seed: int = 0,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    context: int = 2048,
    family: Literal["llama", "qwen2"] = "llama",
) -> Bundle:
    """A random Llama or Qwen2 of about thirty thousand parameters that reads and writes bytes.

    Edge cases: one token per byte: digits, letters and punctuation are one token each, and any text round-trips.
    """
    if hidden % (2 * heads):
        raise ConfigError(f"model.hidden must be a multiple of 2 * model.heads, it is {hidden} with {heads} heads")
    tokenizer = byte_tokenizer()
    model = _build(
        len(tokenizer), tokenizer, seed=seed, hidden=hidden, layers=layers, heads=heads, context=context, family=family
    )
    return Bundle(model, Encoder(tokenizer), f"tiny-{family}", f"tiny:{family}:{hidden}x{layers}:{seed}")


def byte_tokenizer(extra: tuple[str, ...] = ()) -> Any:
    """A byte-level tokenizer with ChatML's special tokens, `extra` ones, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, START, END, *extra]
    symbols = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(symbols)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, *extra],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _build(
    vocabulary: int, tokenizer: Any, *, seed: int, hidden: int, layers: int, heads: int, context: int, family: str
) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config_type, model_type = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}[
        family
    ]
    config = config_type(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,  # at 0.02 a model this small is uniform over its vocabulary and ignores its prompt
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_type(config).eval()
