"""A random Qwen3-VL of a few thousand parameters that reads bytes, built from its configuration: for tests only."""

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from rlpost.media.sample import FrameSettings
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.tiny import byte_tokenizer
from rlpost.models.vision import Qwen3Vision

SPECIAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
# Qwen's own way to write messages: no spaces around the placeholders.
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type in ('video', 'image') %}<|vision_start|><|{{ part.type }}_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen3_vl(*, seed: int = 0, init_std: float = 0.2, pixels: int = 64 * 64) -> Bundle:
    tokenizer = byte_tokenizer(SPECIAL)
    tokenizer.chat_template = TEMPLATE
    ids = tokenizer.get_vocab()
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 2, 2],
                                "mrope_interleaved": True},
            "bos_token_id": None, "eos_token_id": stop, "pad_token_id": pad, "initializer_range": init_std,
        },
        vision_config={
            "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
            "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64, "initializer_range": init_std,
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3VLForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = stop, pad
    frames = FrameSettings(factor=32, min_pixels=pixels, max_pixels=pixels)
    vision = Qwen3Vision(frames=frames, image_min_pixels=pixels, image_max_pixels=pixels)
    return Bundle(model, Encoder(tokenizer, vision), "tiny-qwen3-vl", f"built from its configuration with seed {seed}")
