"""A prompt read once by all its completions gives what prompts repeated for every completion give, on every family."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3NextConfig,
    SmolLM3Config,
)

from rlpost.models import tiny
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.tiny_video import video_tiny
from rlpost.rollout import engine, memory
from rlpost.rollout.engine import Sampling, sample
from rlpost.types import Media, Prompt, Task
from tests.models.qwen3_vl import qwen3_vl

N, TOKENS, VOCABULARY = 3, 40, 60  # more tokens than memory.ROOM, so that the room doubles once
SIZE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "tie_word_embeddings": False,
    "pad_token_id": 0, "eos_token_id": None, "bos_token_id": None,
}  # fmt: skip
WINDOW = 5  # smaller than either prompt
FAMILIES = {
    "llama": lambda: LlamaConfig(**SIZE),
    "qwen2": lambda: Qwen2Config(**SIZE),
    "qwen2_window": lambda: Qwen2Config(**SIZE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1),
    "qwen3": lambda: Qwen3Config(**SIZE, head_dim=8),
    "smollm3": lambda: SmolLM3Config(**SIZE, no_rope_layer_interval=2),
    "mistral": lambda: MistralConfig(**SIZE, sliding_window=WINDOW),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZE, head_dim=8, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"] * 2
    ),
    "qwen3_next": lambda: Qwen3NextConfig(
        **SIZE, head_dim=8, linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, 
        mlp_only_layers=[0, 1, 2, 3], layer_types=["linear_attention", "full_attention"] * 2,
    ),
    "lfm2": lambda: Lfm2Config(**SIZE, layer_types=["conv", "full_attention"] * 2),
}  # fmt: skip
TEXT = list(FAMILIES)
SEEING = ["qwen2_5_vl image", "qwen2_5_vl video", "qwen3_vl image", "qwen3_vl video"]
SHARING = {"llama", "qwen2", "qwen3", "smollm3", *SEEING}


def noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def asked(text: str, kind: str, seed: int) -> Task:
    media = ()
    if kind == "image":
        media = (Media("image", frames=noise(64, 64, 3, seed=seed)),)
    if kind == "video":
        media = (Media("video", frames=noise(4, 64, 64, 3, seed=seed), fps=8.0),)
    content = [*({"type": m.kind} for m in media), {"type": "text", "text": text}]
    return Task(text, [{"role": "user", "content": content}], media=media)


def built(name: str) -> tuple[Bundle, list[Prompt]]:
    """A random model in float64 with two prompts of uneven length and no stop token."""
    if name in FAMILIES:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(FAMILIES[name]()).double().eval()
        bundle = Bundle(model, Encoder(tiny.byte_tokenizer()), name, "")
        prompts = [Prompt(list(range(5, 16)), [0] * 11), Prompt(list(range(20, 27)), [0] * 7)]
    else:
        family, kind = name.split()
        bundle = qwen3_vl(seed=1) if family == "qwen3_vl" else video_tiny(seed=2, init_std=0.2)
        bundle.model.double()
        tasks = [asked("which way does it move ?", kind, 1), asked("how ?", kind, 2)]
        prompts = [bundle.encoder.prompt(task) for task in tasks]
    assert len(prompts[0].ids) > len(prompts[1].ids) > WINDOW
    bundle.encoder.stop_ids = [10_000]
    return bundle, prompts


def draw(bundle: Bundle, prompts, n: int, how: Sampling, seed: int = 3):
    return sample(bundle.model, bundle.encoder, prompts, n, how, torch.Generator().manual_seed(seed))


def repeated(monkeypatch, bundle: Bundle, rows, how: Sampling):
    """The same engine with a row of the prefill, and a copy of all keys and values, for each completion."""

    @contextmanager
    def copied(_model, cache, attention, own):
        yield memory.Copied(cache, attention, own)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_unique", lambda prompts, n: (list(prompts), list(range(len(prompts)))))
        patch.setattr(engine, "remembered", copied)
        return draw(bundle, rows, 1, how)


@pytest.mark.parametrize("name", TEXT + SEEING)
def test_draws_equal_those_of_repeated_prompts_when_rows_end_early(name, monkeypatch):
    bundle, prompts = built(name)
    free = draw(bundle, prompts, N, Sampling(TOKENS))
    bundle.encoder.stop_ids = [free[0].tokens[3], free[4].tokens[7]]
    found = draw(bundle, prompts, N, Sampling(TOKENS))
    wanted = repeated(monkeypatch, bundle, [p for p in prompts for _ in range(N)], Sampling(TOKENS))
    assert [c.tokens for c in found] == [c.tokens for c in wanted]
    assert [c.stop for c in found] == [c.stop for c in wanted]
    for ours, theirs in zip(found, wanted, strict=True):  # sampled from float32 logits
        assert ours.logp == pytest.approx(theirs.logp, abs=1e-5)
    assert len({len(c.tokens) for c in found}) > 2 and len({tuple(c.tokens) for c in found}) > N


@pytest.mark.parametrize("name", TEXT + SEEING)
def test_greedy_equals_generate_on_repeated_prompts(name):
    bundle, prompts = built(name)
    inputs = bundle.encoder.collate([p for p in prompts for _ in range(N)])
    inputs |= {k: v.double() for k, v in inputs.items() if v.is_floating_point()}
    config = GenerationConfig(
        max_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0,
        suppress_tokens=bundle.encoder.suppress or None,
    )  # fmt: skip
    bundle.model.generation_config = config
    theirs = bundle.model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :]
    found = draw(bundle, prompts, N, Sampling(TOKENS, temperature=0.0))
    assert [c.tokens for c in found] == theirs.tolist()
    assert len({tuple(c.tokens) for c in found}) == 2 and len({t for c in found for t in c.tokens}) > 3


@pytest.mark.parametrize("name", TEXT + SEEING)
def test_a_prompt_asked_twice_is_read_once(name, monkeypatch):
    """Also when another stands between the two, and when equal media were encoded for each on their own."""
    bundle, (one, two) = built(name)
    twin = Prompt(list(one.ids), list(one.kinds), dict(one.features))
    shapes, forward = [], bundle.model.forward
    with monkeypatch.context() as patch:
        patch.setattr(
            bundle.model, "forward", lambda *a, **k: shapes.append(tuple(k["input_ids"].shape)) or forward(*a, **k)
        )
        found = draw(bundle, [one, two, twin], 2, Sampling(TOKENS))
    wanted = repeated(monkeypatch, bundle, [one, one, two, two, twin, twin], Sampling(TOKENS))
    assert [c.tokens for c in found] == [c.tokens for c in wanted]
    assert shapes[0] == (2, len(one.ids)) and shapes[1:] == [(6, 1)] * (TOKENS - 1)


@pytest.mark.parametrize("name", SEEING)
def test_the_vision_tower_sees_each_patch_once(name, monkeypatch):
    bundle, (one, two) = built(name)
    seen, tower = [], bundle.model.model.visual.forward
    monkeypatch.setattr(
        bundle.model.model.visual,
        "forward",
        lambda patches, *a, **k: seen.append(len(patches)) or tower(patches, *a, **k),
    )
    twin = Prompt(list(one.ids), list(one.kinds), dict(one.features))
    draw(bundle, [one, twin, two], 4, Sampling(3))
    pixels = "pixel_values" if "image" in name else "pixel_values_videos"
    assert seen == [len(one.features[pixels]) + len(two.features[pixels])]


@pytest.mark.parametrize("name", TEXT + SEEING)
def test_which_families_share_the_keys_of_a_prompt(name, monkeypatch):
    bundle, prompts = built(name)
    calls, attend = [], memory.attend
    monkeypatch.setattr(memory, "attend", lambda *a, **k: calls.append(1) or attend(*a, **k))
    before = bundle.model.config.get_text_config()._attn_implementation
    draw(bundle, prompts, 2, Sampling(2))
    assert bool(calls) == (name in SHARING)
    assert bundle.model.config.get_text_config()._attn_implementation == before


def test_attention_is_put_back_after_an_error():
    bundle, _ = built("llama")
    config = bundle.model.config
    with pytest.raises(RuntimeError, match="stop here"):
        cache = memory.DynamicLayer()
        cache.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8))
        holder = type("Holder", (), {"layers": [cache]})()
        with memory.remembered(bundle.model, holder, torch.ones(1, 3), torch.zeros(2, dtype=torch.long)):
            assert config._attn_implementation == memory.NAME
            raise RuntimeError("stop here")
    assert config._attn_implementation == "sdpa"


@pytest.mark.parametrize("change", ["bfloat16", "eager"])
def test_other_precisions_and_kernels_get_copies(change, monkeypatch):
    bundle, prompts = built("llama")
    if change == "bfloat16":
        bundle.model.bfloat16()
    else:
        bundle.model.float().set_attn_implementation("eager")
    monkeypatch.setattr(memory, "attend", lambda *a, **k: pytest.fail("shared"))
    assert len(draw(bundle, prompts, 2, Sampling(3))) == 4
