"""Which fields the plug-ins of a run read, and so which models and passes it needs: signatures declare it."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

REFERENCE = {"ref_logp", "ref_divergence"}
TEACHER = {"teacher_logp", "teacher_divergence"}


def reads(plugin: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the positional parameters of a function, a partial of one, or an object with `__call__`."""
    bare = plugin.func if isinstance(plugin, functools.partial) else plugin
    return _positional(bare if inspect.isroutine(bare) else type(bare).__call__)


@functools.lru_cache(maxsize=4096)  # every term of every step asks
def _positional(function: Callable[..., Any]) -> tuple[str, ...]:
    names = [
        name
        for name, p in inspect.signature(function).parameters.items()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return tuple(name for name in names if name != "self")


def regression(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a loss that regresses on `advantage`: it is a target there, so a row with 0 may still have a gradient."""
    setattr(function, "is_regression", True)  # noqa: B010 (functions have no such attribute for a type checker)
    return function


def is_regression(plugin: Callable[..., Any]) -> bool:
    """Whether a loss, or a partial of one, is marked as a regression."""
    return bool(getattr(plugin.func if isinstance(plugin, functools.partial) else plugin, "is_regression", False))


def needed(plugins: Iterable[Callable[..., Any]]) -> set[str]:
    """Every field that at least one of the plug-ins reads."""
    return {name for plugin in plugins for name in reads(plugin)}


def call(plugin: Callable[..., Any], record: Any, extra: dict[str, Any]) -> Any:
    """Call a plug-in with the fields it names, taken from `extra` first and from the record otherwise.

    Raises AttributeError or ValueError in a sentence when a field is unknown or was not computed.
    """
    values = []
    for name in reads(plugin):
        if name in extra:
            value = extra[name]
        elif hasattr(record, name):
            value = getattr(record, name)
        else:
            raise AttributeError(f"{_name(plugin)} reads '{name}', which is not a field of {type(record).__name__}")
        if value is None:
            raise ValueError(f"{_name(plugin)} reads '{name}', which this step did not compute")
        values.append(value)
    return plugin(*values)


def _name(plugin: Callable[..., Any]) -> str:
    bare = plugin.func if isinstance(plugin, functools.partial) else plugin
    return getattr(bare, "__name__", type(bare).__name__)
