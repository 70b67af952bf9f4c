"""The Hugging Face model inside its wrappers."""

from typing import Any


def unwrap(model: Any) -> Any:
    """The Hugging Face model inside data-parallel and peft wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model
