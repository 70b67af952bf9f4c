"""How models are read: no code that comes with them, no pickles, and no kernels that a file names."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from rlpost.errors import ModelError

Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]
# A pickle is a program. transformers and peft would read one where there is no file in safetensors.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


def checked(source: str, revision: str | None) -> Any:
    """The configuration of a model, read without its code. Raises ModelError as `known_attention` does."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    known_attention(config, source)
    return config


def known_attention(config: Any, path: str) -> None:
    """Raises ModelError where a model's configuration names an attention that transformers would fetch as a kernel."""
    configs = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", {}))]
    for one in configs:
        asked = getattr(one, "_attn_implementation", None)
        if asked is not None and asked not in get_args(Attention):
            raise ModelError(
                f"the configuration of the model {path} asks for the attention {asked!r}, which is code from "
                f"elsewhere; there are {', '.join(get_args(Attention))}: take attn_implementation out of config.json"
            )


def safe_adapter(place: Path, key: str = "") -> None:
    """Raises ModelError where a folder's adapter is a pickle, or its configuration names a module to import.

    `key` is that of the configuration which names the folder, for the message.
    """
    named = f"{key}={place}" if key else str(place)
    try:
        settings = json.loads((place / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the adapter_config.json in {named} cannot be read: {error}") from error
    imports_nothing(settings, named)
    if not any(place.glob("adapter_model*.safetensors")):
        there = ", ".join(sorted(file.name for kind in PICKLES for file in place.glob(kind)))
        raise ModelError(
            f"{named} configures an adapter but holds no adapter_model.safetensors; save it again"
            + (f": {there} is a pickle, which can run code when it is read" if there else "")
        )


def imports_nothing(settings: Mapping[str, Any], where: str) -> None:
    """Raises ModelError for settings of an adapter with which peft imports a module that they name."""
    if settings.get("megatron_config"):
        raise ModelError(f"{where} has megatron_config, with which peft imports the module megatron_core; leave it out")
