"""Qwen2.5-VL and Qwen3-VL from the hub or a folder; how videos and images are sampled are knobs, not library edits."""

from dataclasses import replace
from typing import Literal

from rlpost.media.sample import FrameSettings
from rlpost.models.encode import Bundle
from rlpost.models.load import hub
from rlpost.models.trusted import Attention
from rlpost.models.vision import hub_media


def qwen_vl(
    *,
    path: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16",
    attn_implementation: Attention | None = None,
    revision: str | None = None,
    chat_template: str | None = None,
    fps: float = 2.0,
    min_frames: int = 4,
    max_frames: int = 16,
    frame_min_pixels: int = 100352,
    frame_max_pixels: int = 100352,
    image_min_pixels: int = 3136,
    image_max_pixels: int = 200704,
    decode_limit_s: float = 60.0,
    cache_mb: float = 4096.0,
) -> Bundle:
    """A Qwen2.5-VL or Qwen3-VL, told apart by its configuration. Pixels are per frame.

    Two frames of 128*28*28 (Qwen2.5-VL) or 128*32*32 (Qwen3-VL) pixels cost about 128 placeholder tokens.
    """
    bundle = hub(
        path=path, dtype=dtype, attn_implementation=attn_implementation, revision=revision, chat_template=chat_template
    )
    settings = FrameSettings(
        fps=fps,
        min_frames=min_frames,
        max_frames=max_frames,
        min_pixels=frame_min_pixels,
        max_pixels=frame_max_pixels,
    )
    media = hub_media(bundle.model, bundle.encoder.tokenizer, path, revision, settings)
    bundle.encoder.media = replace(
        media,
        image_min_pixels=image_min_pixels,
        image_max_pixels=image_max_pixels,
        limit_s=decode_limit_s,
        cache_mb=cache_mb,
    )
    return bundle
