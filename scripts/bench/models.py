"""Small models built from their configurations, and prompts of an exact length, with and without an image."""

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl

from rlpost.models.encode import KINDS, Bundle, Encoder
from rlpost.models.tiny import byte_tokenizer
from rlpost.models.vision import QwenVision
from rlpost.types import Prompt

VOCABULARY = 2048
VISUAL = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
# Beyond the vocabulary: no completion ends before its limit.
NEVER = 10_000
# 40 by 40 patches, merged two by two: 400 placeholder tokens.
GRID = (1, 40, 40)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for part in m['content'] %}{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def llama(*, vocabulary: int = VOCABULARY, layers: int = 4, width: int = 256, seed: int = 0) -> Bundle:
    """A Llama of `layers` layers with grouped heads; the standard deviation of 0.08 makes a wrong mask show."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(**_text(tokenizer, vocabulary, layers, width), head_dim=width // 8)
    model = _seeded(LlamaForCausalLM, config, seed)
    return Bundle(model, Encoder(tokenizer, stop_ids=[NEVER]), "llama", f"built from its configuration, seed {seed}")


def visual_tokenizer() -> tuple[Any, dict[str, int]]:
    """A tokenizer with the tokens around images and videos, and their ids as a configuration names them."""
    tokenizer = byte_tokenizer(VISUAL)
    tokenizer.chat_template = TEMPLATE
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return tokenizer, {name: tokenizer.convert_tokens_to_ids(word) for name, word in zip(names, VISUAL, strict=True)}


def vision(family: str, *, layers: int = 4, width: int = 256, seed: int = 0) -> Bundle:
    """A Qwen2.5-VL ("qwen2_5_vl") or Qwen3-VL ("qwen3_vl") with a vision tower of two or three layers."""
    tokenizer, special = visual_tokenizer()
    tower = {"hidden_size": 64, "num_heads": 4, "out_hidden_size": width, "initializer_range": 0.1}
    text = _text(tokenizer, VOCABULARY, layers, width)
    rope = {"rope_type": "default", "rope_theta": 1e4}
    half = width // 16
    if family == "qwen2_5_vl":
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
        tower |= {"depth": 2, "intermediate_size": 96, "fullatt_block_indexes": [1], "window_size": 56}
        config = Qwen2_5_VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=tower, **special)
        model = _seeded(Qwen2_5_VLForConditionalGeneration, config, seed)
    else:
        rope |= {"mrope_section": [half - 2 * (half // 3), half // 3, half // 3], "mrope_interleaved": True}
        tower |= {"depth": 3, "intermediate_size": 96, "num_position_embeddings": 256}
        tower |= {"deepstack_visual_indexes": [0, 1]}
        text |= {"rope_parameters": rope, "head_dim": width // 8}
        config = Qwen3VLConfig(text_config=text, vision_config=tower, **special)
        model = _seeded(Qwen3VLForConditionalGeneration, config, seed)
    encoder = Encoder(tokenizer, QwenVision(image_max_pixels=4096 * 28 * 28), stop_ids=[NEVER])
    return Bundle(model, encoder, family, f"built from its configuration, seed {seed}")


def _text(tokenizer: Any, vocabulary: int, layers: int, width: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": 11 * width // 4,
        "num_hidden_layers": layers,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 16384,
        "initializer_range": 0.08,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _seeded(kind: Any, config: Any, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind._from_config(config, attn_implementation="sdpa").float()
    model.generation_config.eos_token_id = NEVER
    model.generation_config.pad_token_id = config.get_text_config().pad_token_id
    return model.train()


def prompt(
    bundle: Bundle, length: int, *, seed: int = 1, grid: tuple[int, int, int] = GRID, kind: str = "image"
) -> Prompt:
    """`length` tokens; for a model with a vision tower, an image or video of `grid` patches after the first five."""
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(300, VOCABULARY, (length,), generator=draw).tolist()
    if bundle.encoder.media is None:
        return Prompt(words, [0] * length)
    tower, config = bundle.model.config.vision_config, bundle.model.config
    count = grid[0] * grid[1] * grid[2] // tower.spatial_merge_size**2
    if length < count + 8:
        raise ValueError(f"a prompt of {length} tokens has no room for {count} of a medium and some words around it")
    start, end = config.vision_start_token_id, config.vision_end_token_id
    token = config.image_token_id if kind == "image" else config.video_token_id
    ids = [*words[:5], start, *[token] * count, end, *words[count + 7 :]]
    size = tower.in_channels * tower.temporal_patch_size * tower.patch_size**2
    pixels = torch.randn(grid[0] * grid[1] * grid[2], size, generator=draw)
    features = {"pixel_values": pixels, "image_grid_thw": torch.tensor([grid])}
    if kind == "video":
        times = {"second_per_grid_ts": torch.tensor([1.0])}
        features = {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([grid]), **times}
    return Prompt(ids, [KINDS[kind] * (one == token) for one in ids], features)


@contextlib.contextmanager
def float64(model: Any) -> Iterator[None]:
    """Compute in float64 throughout: the stock norms and the vision tower's rotary embedding cast to float32."""

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        eps = getattr(self, "variance_epsilon", getattr(self, "eps", None))
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))

    def rotary(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[Any, Any]:
        turn = modeling_qwen2_5_vl.rotate_half
        cos, sin = cos.unsqueeze(-2).to(q.dtype), sin.unsqueeze(-2).to(q.dtype)
        return q * cos + turn(q) * sin, k * cos + turn(k) * sin

    model.double()
    modules = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    sources: list[Any] = [modeling_qwen2_5_vl, modeling_qwen3_vl]
    stock = [source.apply_rotary_pos_emb_vision for source in sources]
    for module in modules:
        module.forward = types.MethodType(norm, module)
    for source in sources:
        source.apply_rotary_pos_emb_vision = rotary
    try:
        yield
    finally:
        for module in modules:
            del module.forward
        for source, function in zip(sources, stock, strict=True):
            source.apply_rotary_pos_emb_vision = function
