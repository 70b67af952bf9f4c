"""Rewards that people already have: functions written for TRL."""

import asyncio
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlpost import allow
from rlpost.errors import ConfigError
from rlpost.types import Rollout

OWN = ("prompts", "completions", "completion_ids")


def trl(
    rollouts: Sequence[Rollout],
    *,
    path: str,
    style: Literal["conversational", "standard"] = "conversational",
    kwargs: dict[str, Any] | None = None,
) -> Sequence[float | None]:
    """A reward function written for TRL, used as it is.

    It has the form f(prompts, completions, completion_ids, **columns) -> scores. `path` is `package.module.function` or
    `file.py:function`. `style` says what it was written for: messages or plain text. `kwargs` are passed on; dataset
    columns come as lists, the gold answer as `answer` too.

    Edge cases: a coroutine function is awaited. A column that a row lacks is None. `log_extra` and `log_metric` write
    to `rollout.info`. TRL's `trainer_state` does not exist here: a function that names it is refused.
    """
    function = load(path)
    given = {**_columns(rollouts, style), **_logging(rollouts), **(kwargs or {})}
    scores = function(**_accepted(function, given, path))
    if inspect.isawaitable(scores):
        scores = asyncio.run(_awaited(scores))
    return [None if score is None else float(score) for score in scores]


@functools.lru_cache(maxsize=64)
def load(path: str) -> Callable[..., Any]:
    """The function that a dotted path, or `file.py:function`, names."""
    allow.require(path, "reward.external.path")
    place, colon, name = path.rpartition(":")
    if not colon:
        place, _, name = path.rpartition(".")
    if not place or not name:
        raise ConfigError(f"{path!r} names no function; write package.module.function or file.py:function")
    module = _from_file(place, path) if place.endswith(".py") else _from_package(place, path)
    function = getattr(module, name, None)
    if not callable(function):
        known = [
            n for n, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise ConfigError(f"{place} has no function {name!r} ({path!r}); it has {', '.join(known) or 'none'}")
    return function


def _from_file(place: str, path: str) -> Any:
    file = Path(place).expanduser()
    if not file.is_file():
        raise ConfigError(f"the file of the reward {path!r} does not exist")
    spec = importlib.util.spec_from_file_location(f"rlpost_external_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_package(place: str, path: str) -> Any:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the reward {path!r}: no module {error.name!r}; install it, or write file.py:function"
        ) from error


def _columns(rollouts: Sequence[Rollout], style: str) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for rollout in rollouts for name in rollout.task.columns)
    columns = {name: [rollout.task.columns.get(name) for rollout in rollouts] for name in names}
    if any(rollout.task.answer is not None for rollout in rollouts):
        columns.setdefault("answer", [rollout.task.answer for rollout in rollouts])
    if style == "conversational":
        prompts: list[Any] = [[dict(message) for message in rollout.task.prompt] for rollout in rollouts]
        completions: list[Any] = [[{"role": "assistant", "content": rollout.text}] for rollout in rollouts]
    else:
        prompts = [_plain(rollout) for rollout in rollouts]
        completions = [rollout.text for rollout in rollouts]
    ids = [list(rollout.tokens) for rollout in rollouts]
    return {**columns, "prompts": prompts, "completions": completions, "completion_ids": ids}


def _plain(rollout: Rollout) -> str:
    """The text of a prompt that is one user turn (a system turn apart)."""
    turns = [message for message in rollout.task.prompt if message["role"] != "system"]
    if len(turns) != 1 or not isinstance(turns[0]["content"], str):
        raise ValueError(
            f"the prompt of task {rollout.task.id} is a conversation of {len(turns)} turns, which has no plain form; "
            "set style: conversational"
        )
    return turns[0]["content"]


def _logging(rollouts: Sequence[Rollout]) -> dict[str, Callable[[str, Any], None]]:
    def log_extra(name: str, values: Sequence[Any]) -> None:
        for rollout, value in zip(rollouts, values, strict=True):
            rollout.info[name] = value

    def log_metric(name: str, value: Any) -> None:
        for rollout in rollouts:
            rollout.info[name] = value

    return {"log_extra": log_extra, "log_metric": log_metric}


def _accepted(function: Callable[..., Any], given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Everything for a function that takes **columns, else what it names; what it needs and nobody has is an error."""
    parameters = inspect.signature(function).parameters
    needed = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    missing = [name for name in needed if name not in given]
    if missing:
        columns = ", ".join(name for name in given if name not in OWN)
        raise ValueError(
            f"{path} needs {', '.join(map(repr, missing))}, which is neither a dataset column nor in "
            f"kwargs; there are {', '.join(OWN)}, {columns}"
            + (
                "; a function of rollouts is reward.<name>._target_=<module>.<function>"
                if "rollouts" in missing
                else ""
            )
        )
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(given)
    return {name: value for name, value in given.items() if name in parameters}


async def _awaited(scores: Any) -> Any:
    return await scores
