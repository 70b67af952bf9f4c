"""From a checked node to what it names: a function with its knobs bound, or an instance of a class."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rlpost import allow
from rlpost.errors import ConfigError

RESERVED = frozenset({"_target_", "weight", "coef", "when", "aggregate", "renormalise", "time_limit"})
ROLLOUT_RESERVED = frozenset({"num_generations", "max_tokens", "temperature", "top_p", "top_k", "engine", "max_draws"})


def build(node: dict[str, Any]) -> Callable[..., Any] | Any:
    """Turn a checked node into what it names: a function with its knobs bound, or an instance of a class."""
    if not isinstance(node, dict) or "_target_" not in node:
        raise ConfigError(f"cannot build {node!r}: a node names its function in _target_")
    made = _import(str(node["_target_"]))
    parameters = inspect.signature(made).parameters
    skip = RESERVED | (ROLLOUT_RESERVED - set(parameters))
    knobs = {key: _build_value(value) for key, value in node.items() if key not in skip}
    return made(**knobs) if inspect.isclass(made) else functools.partial(made, **knobs)


def target(node: Mapping[str, Any]) -> Any:
    """The function or class that a node names, without building anything."""
    return _import(str(node["_target_"]))


def _build_value(value: Any) -> Any:
    if isinstance(value, dict) and "_target_" in value:
        return build(value)
    return value


def _import(target: str) -> Any:
    allow.require(target)  # before the import, which runs code
    module, _, name = target.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise ConfigError(f"_target_ {target!r}: there is no module {error.name!r}") from error
        raise ConfigError(
            f"{target} needs the package {error.name!r}, which is not installed; {_extra(error.name)}"
        ) from error
    except AttributeError as error:
        raise ConfigError(f"_target_ {target!r}: module {module} has no {name!r}") from error
    allow.require_home(made, target)
    return made


def _extra(package: str | None) -> str:
    extras = {
        "av": "video",
        "PIL": "video",
        "sacrebleu": "text",
        "rouge_score": "text",
        "vllm": "vllm",
        "deepspeed": "deepspeed",
    }
    extra = extras.get((package or "").split(".")[0])
    return f"pip install 'rlpost[{extra}]'" if extra else f"pip install {package}"
