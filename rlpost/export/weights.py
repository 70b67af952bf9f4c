"""Writing the folder: weights in safetensors, tokenizer with its chat template, processor and generation config."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from rlpost.errors import ConfigError, ModelError
from rlpost.export.source import ADAPTER, Source
from rlpost.models.encode import Bundle
from rlpost.models.vision import QwenVision

# What belongs to a model among the files that a trainer saves; optimizer, random numbers and pickles stay behind.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json", ADAPTER)
PROCESSOR = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


def copied(source: Source, folder: Path) -> None:
    """The saved weights as they are: everything that was trained, or the adapter alone."""
    for pattern in WEIGHTS:
        for place in source.weights.glob(pattern):
            shutil.copyfile(place, folder / place.name)


def name_base(source: Source, bundle: Bundle, folder: Path) -> str:
    """Write into the adapter's configuration what it sits on, so that peft finds it; returns that name.

    Raises ConfigError where it sits on a model that exists nowhere under a name.
    """
    base = adapter_base(source, bundle)
    place = folder / ADAPTER
    config = json.loads(place.read_text(encoding="utf-8"))
    place.write_text(json.dumps({**config, "base_model_name_or_path": base}, indent=2) + "\n", encoding="utf-8")
    return base


def adapter_base(source: Source, bundle: Bundle) -> str:
    """The hub name or the folder of what the adapter was trained on. Raises ConfigError where there is none."""
    init = source.tree.get("init")
    if init and (Path(init) / "config.json").is_file():
        return str(Path(init).resolve())
    if init:
        raise ConfigError(
            f"the adapter sits on {bundle.source} with another adapter ({init}) merged into it, which is saved "
            "nowhere; use --to merged"
        )
    path = source.tree["model"].get("path")
    if path:
        return str(Path(path).expanduser().resolve()) if Path(path).expanduser().is_dir() else path
    if Path(bundle.source).is_dir():
        return bundle.source
    raise ConfigError(
        f"the adapter sits on {bundle.source}, which is built from its configuration and has no folder that peft could "
        "load; use --to merged"
    )


def merged(model: Any, dtype: str) -> Any:
    """The base with its adapter merged into it, in `dtype`. Raises ModelError where the adapter cannot be merged."""
    try:
        whole = model.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, ValueError) as error:
        raise ModelError(f"the adapter cannot be merged into its base: {error}; use --to hf") from error
    return whole.to(getattr(torch, dtype))


def save(model: Any, folder: Path) -> None:
    """The model as `save_pretrained` writes it."""
    model.save_pretrained(folder)


def companions(source: Source, bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Tokenizer with chat template, processor and generation config; returns the generation config.

    The tokenizer is the one that was saved with the weights. The stop tokens are all those that the run stopped at, in
    place of the base's; everything else of the base's generation config stays as it was.
    """
    from transformers import AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source.weights), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"{source.weights} holds no tokenizer that can be read: {error}") from error
    if bundle.encoder.tokenizer.chat_template and not tokenizer.chat_template:
        raise ModelError(f"the tokenizer in {source.weights} has lost its chat template; take another checkpoint")
    tokenizer.save_pretrained(folder)
    if bundle.encoder.media is not None:
        _processor(source, bundle, folder)
    base = bundle.model.generation_config or GenerationConfig()
    config = copy.deepcopy(base)
    stops = list(bundle.encoder.stop_ids)
    config.eos_token_id, config.pad_token_id = stops if len(stops) > 1 else stops[0], bundle.encoder.pad_id
    if source.verb != "reward":
        config.save_pretrained(folder)
    return config.to_diff_dict()


def _processor(source: Source, bundle: Bundle, folder: Path) -> None:
    """The processor files of the base, or ones with the numbers of a media encoder that was built without any."""
    path = source.tree["model"].get("path")
    if path:
        from transformers.utils import cached_file

        for name in PROCESSOR:
            place = cached_file(
                path,
                name,
                revision=source.tree["model"].get("revision"),
                _raise_exceptions_for_missing_entries=False,
            )
            if place is not None:
                shutil.copyfile(place, folder / name)
    elif isinstance(bundle.encoder.media, QwenVision):
        _described(bundle.encoder.media, folder)
    if not any((folder / name).is_file() for name in PROCESSOR):
        raise ModelError(f"no processor of {bundle.source} can be found, without which media cannot be encoded")


def _described(media: QwenVision, folder: Path) -> None:
    common = {
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": media.patch_size,
        "merge_size": media.merge,
        "temporal_patch_size": media.temporal,
        "image_mean": list(media.mean),
        "image_std": list(media.std),
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "rescale_factor": 1 / 255,
        "resample": 3,
    }
    frames = media.frames
    image = {
        **common,
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": media.image_min_pixels, "longest_edge": media.image_max_pixels},
    }
    video = {
        **common,
        "video_processor_type": "Qwen2VLVideoProcessor",
        "size": {"shortest_edge": frames.min_pixels, "longest_edge": frames.max_pixels},
        "fps": frames.fps,
        "min_frames": frames.min_frames,
        "max_frames": frames.max_frames,
        "do_sample_frames": True,
    }
    for name, value in (("preprocessor_config.json", image), ("video_preprocessor_config.json", video)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
