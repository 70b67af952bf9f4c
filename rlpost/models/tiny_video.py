"""A Qwen2.5-VL of about a million parameters, built from its configuration: video post-training without a download."""

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from rlpost.media.sample import FrameSettings
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.vision import QwenVision

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# The whole language of `dataset=clips`. A word outside it becomes <unk>.
LANGUAGE = """
<unk> <think> </think> <answer> </answer> system user assistant A B C D . , ? : so then
the a an is are does what which way how many far when where in of to or from at on it one two none first
last part second
circle square triangle cross red green blue yellow shape shapes colour letter letters clip view ball
scene left right up down tl tr bl br forwards backwards brighter darker
move moves appear appears change changes happens shown fall played get
bikes bunny phone K L O T X Z
1 2 3 4 0.5 1.0 1.5 2.0 10 15 20 25 30 35 40
"""

# Content may be a text or a list of parts; a space stands between any two words, since words are the tokens.
TEMPLATE = (
    "{% for message in messages %}"
    "{{ ' <|im_start|> ' if not loop.first else '<|im_start|> ' }}{{ message.role }}"
    "{% if message.content is string %} {{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type in ('video', 'image') %} <|vision_start|> <|{{ part.type }}_pad|> <|vision_end|>"
    "{% else %} {{ part.text }}{% endif %}{% endfor %}{% endif %} <|im_end|>"
    "{% endfor %}{% if add_generation_prompt %} <|im_start|> assistant{% endif %}"
)


def video_tiny(
    *,
    seed: int = 0,
    width: int = 128,
    layers: int = 3,
    heads: int = 4,
    hidden: int = 256,
    vision_width: int = 64,
    vision_layers: int = 2,
    rope_theta: float = 100.0,
    init_std: float = 0.05,
    frames: int = 8,
    fps: float = 4.0,
    pixels: int = 56 * 56,
    decode_limit_s: float = 30.0,
) -> Bundle:
    """A random Qwen2.5-VL with a vocabulary of its own, that learns rendered clips on a CPU."""
    tokenizer = word_tokenizer()
    model = build_model(
        tokenizer,
        seed=seed,
        width=width,
        layers=layers,
        heads=heads,
        hidden=hidden,
        vision_width=vision_width,
        vision_layers=vision_layers,
        rope_theta=rope_theta,
        init_std=init_std,
    )
    sampling = FrameSettings(fps=fps, min_frames=4, max_frames=frames, min_pixels=pixels, max_pixels=pixels)
    vision = QwenVision(frames=sampling, image_min_pixels=pixels, image_max_pixels=pixels, limit_s=decode_limit_s)
    return Bundle(model, Encoder(tokenizer, vision), "video_tiny", f"built from its configuration with seed {seed}")


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, so that a completion of twenty tokens holds a rationale and an answer."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *LANGUAGE.split()]))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=[token for token in SPECIAL if token not in ("<|endoftext|>", "<|im_end|>")],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    width: int,
    layers: int,
    heads: int,
    hidden: int,
    vision_width: int,
    vision_layers: int,
    rope_theta: float,
    init_std: float,
) -> Qwen2_5_VLForConditionalGeneration:
    """The model in float32 and eval mode; equal seeds give equal weights."""
    half = width // heads // 2
    # The three sections (time, height, width) of the rotary embedding sum to half a head; time gets the most.
    side = half // 4
    stop, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = tokenizer.get_vocab()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "intermediate_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 1024,
            # A base of 100: positions are few, and a large base leaves most of a small head without a signal.
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": rope_theta,
                "mrope_section": [half - 2 * side, side, side],
            },
            "bos_token_id": None,
            "eos_token_id": stop,
            "pad_token_id": pad,
            "initializer_range": init_std,
        },
        vision_config={
            "depth": vision_layers,
            "hidden_size": vision_width,
            "intermediate_size": 2 * vision_width,
            "num_heads": 4,
            "window_size": 112,
            "out_hidden_size": width,
            "fullatt_block_indexes": [vision_layers - 1],
            "tokens_per_second": 4,
            "initializer_range": init_std,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = stop, pad
    return model.eval()
