"""Models of the sizes of Qwen3-4B and Qwen2.5-VL-3B, built from their configurations with random weights."""

from typing import Any

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlpost.models.encode import Bundle, Encoder
from rlpost.models.tiny import byte_tokenizer
from rlpost.models.vision import QwenVision
from scripts.bench import models

WORDS = 151936


def qwen3_4b(device: str = "cuda") -> Bundle:
    """A text model of 4.0 billion parameters in bfloat16, in training mode."""
    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=WORDS,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        **_special(tokenizer),
    )
    model = _built(Qwen3ForCausalLM, config, device)
    return Bundle(model, Encoder(tokenizer, stop_ids=[models.NEVER]), "Qwen3-4B", "built from its configuration")


def qwen2_5_vl_3b(device: str = "cuda") -> Bundle:
    """A vision-language model of 3.75 billion parameters in bfloat16, in training mode."""
    tokenizer, visual = models.visual_tokenizer()
    text = {
        "vocab_size": WORDS,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128000,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        "tie_word_embeddings": True,
        **_special(tokenizer),
    }
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=tower, tie_word_embeddings=True, **visual)
    model = _built(Qwen2_5_VLForConditionalGeneration, config, device)
    encoder = Encoder(tokenizer, QwenVision(), stop_ids=[models.NEVER])
    return Bundle(model, encoder, "Qwen2.5-VL-3B", "built from its configuration")


def _special(tokenizer: Any) -> dict[str, Any]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}


def _built(kind: Any, config: Any, device: str) -> Any:
    with torch.device(device):
        model = kind._from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    model.generation_config.eos_token_id = models.NEVER
    model.generation_config.pad_token_id = config.get_text_config().pad_token_id
    return model.train()
