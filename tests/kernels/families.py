"""Small models of many families in exact float64, and uneven groups of rows for them.

Stock norms and vision rotary tables compute in float32, which hides or makes differences of 1e-6; here they are patched
to float64, so that two equal computations agree to 1e-9.
"""

import types
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from rlpost.likelihood.scoring import teach
from rlpost.models.encode import Encoder, completion_mask
from rlpost.models.tiny import byte_tokenizer
from rlpost.types import Prompt

WORDS, IMAGE, VIDEO, START, END = 300, 290, 291, 292, 293
WINDOW = 12
BASE = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": None,
}
WINDOWS = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, **WINDOWS}
TEXT = {
    "llama": ("llama", {}),
    "llama_eager": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen2_window": ("qwen2", {"use_sliding_window": True, **WINDOWS}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "smollm3": ("smollm3", {}),
    "mistral": ("mistral", {"sliding_window": WINDOW, "head_dim": 8}),
    "gemma2_eager": ("gemma2", {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0}),
    "gemma3": ("gemma3_text", GEMMA),
}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32, "initializer_range": 0.3}
VISUAL = {
    "qwen2_5_vl": (
        {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 100.0}},
        {"depth": 2, "fullatt_block_indexes": [1], "window_size": 56, "tokens_per_second": 4},
    ),
    "qwen3_vl": (
        {
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
                "rope_theta": 100.0,
            },
        },
        {"depth": 3, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64},
    ),
}
FAMILIES = [*TEXT, *(f"{name}/{kind}" for name in VISUAL for kind in ("image", "video"))]


@dataclass
class Case:
    """A model with an encoder, the prompt of every row, completions, mask and upstream weights of their tokens."""

    model: torch.nn.Module
    encoder: Encoder
    prompts: list[Prompt]
    completions: list[list[int]]
    mask: torch.Tensor
    weights: torch.Tensor


def case(family: str, *, exact: bool = True, sizes=((5, 1, 7, 3), (2, 6)), lengths=(31, 17)) -> Case:
    """Groups of uneven size and length, prompts of uneven length, some tokens masked."""
    name, _, kind = family.partition("/")
    torch.manual_seed(3)
    model = _visual(name) if kind else _text(name)
    if exact:
        _exact(model.double())
    encoder = Encoder(byte_tokenizer(), media=_Reads() if kind else None)
    draw = torch.Generator().manual_seed(7)
    unique = [_prompt(name, kind, model, n, draw) for n in lengths]
    prompts = [prompt for prompt, group in zip(unique, sizes, strict=True) for _ in group]
    completions = [torch.randint(5, 280, (n,), generator=draw).tolist() for group in sizes for n in group]
    trains = [[True] * len(c) for c in completions]
    next(t for t in trains if len(t) > 3)[3] = False
    mask = completion_mask(completions, trains)
    weights = torch.randn(mask.shape, generator=draw, dtype=torch.float64)
    teach(model)
    return Case(model, encoder, prompts, completions, mask, weights)


def _text(name: str) -> torch.nn.Module:
    kind, more = TEXT[name]
    how = "eager" if name.endswith("_eager") else "sdpa"
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **BASE, **more), attn_implementation=how)


def _visual(name: str) -> torch.nn.Module:
    text, vision = VISUAL[name]
    ids = {"image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END}
    config = AutoConfig.for_model(name, text_config={**BASE, **text}, vision_config={**VISION, **vision}, **ids)
    return AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa")


def _prompt(name: str, kind: str, model: torch.nn.Module, length: int, draw: torch.Generator) -> Prompt:
    def words(n: int) -> list[int]:
        return torch.randint(5, 280, (n,), generator=draw).tolist()

    if not kind:
        return Prompt(words(length), [0] * length)
    vision, token = model.config.vision_config, {"image": IMAGE, "video": VIDEO}[kind]
    grid = (1, 4, 6) if kind == "image" else (3, 4, 4)
    per_step = grid[1] * grid[2] // vision.spatial_merge_size**2
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    patches = torch.randn(grid[0] * grid[1] * grid[2], width, generator=draw)
    one = [START, *[token] * per_step, END]
    if kind == "image":
        body = one
    elif name == "qwen3_vl":  # every frame stands alone behind its time in words
        body = [i for _ in range(grid[0]) for i in (*words(3), *one)]
    else:
        body = [START, *[token] * (per_step * grid[0]), END]
    ids = [*words(4), *body, *words(length - 10)]
    kinds = [{IMAGE: 1, VIDEO: 2}.get(i, 0) for i in ids]
    names = ("pixel_values", "image_grid_thw") if kind == "image" else ("pixel_values_videos", "video_grid_thw")
    features = {names[0]: patches, names[1]: torch.tensor([grid])}
    if kind == "video" and name == "qwen2_5_vl":
        features["second_per_grid_ts"] = torch.tensor([0.5])
    return Prompt(ids, kinds, features)


class _Reads:
    """Marks an encoder as one that takes media; the prompts here are encoded already."""

    special_tokens = ()


def _exact(model: torch.nn.Module) -> None:
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            eps = getattr(module, "variance_epsilon", getattr(module, "eps", 1e-6))
            module.forward = types.MethodType(_norm(eps, 1.0 if kind.startswith("Gemma") else 0.0), module)


def _norm(eps: float, plus: float):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight + plus) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))

    return forward


def exact_vision_rotary(monkeypatch) -> None:
    """The vision towers rotate in the dtype of their states."""
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as first
    from transformers.models.qwen3_vl import modeling_qwen3_vl as second

    def rotate(query, key, cos, sin):
        cos, sin = (x.unsqueeze(-2).to(query.dtype) for x in (cos, sin))
        return tuple(x * cos + first.rotate_half(x) * sin for x in (query, key))

    for module in (first, second):
        monkeypatch.setattr(module, "apply_rotary_pos_emb_vision", rotate)
