"""Several datasets as one."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlpost.errors import ConfigError, DataError
from rlpost.types import Task


def mix(
    split: str,
    *,
    parts: Mapping[str, Any],
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Sequence[Task]:
    """Rows of several datasets; the first tag and the id of a row name its part.

    `parts` holds dataset options by name. Without `weights` every row of every part is there once. With weights the
    parts have these shares of the whole, which is as large as it can be without a row appearing twice.

    Edge cases: a part with weight 0 is left out. A part without the split is an error unless its weight is 0.
    """
    if not parts:
        raise ConfigError("dataset=mix has no parts; add one with '+dataset@dataset.parts.<name>=<option>'")
    unknown = sorted(set(weights or {}) - set(parts))
    if unknown:
        raise ConfigError(f"dataset.weights names {', '.join(unknown)}; the parts are {', '.join(parts)}")
    shares = {name: float((weights or {}).get(name, 1.0)) for name in parts}
    if any(share < 0 for share in shares.values()) or not any(shares.values()):
        raise ConfigError(f"dataset.weights must be positive or 0, with one above 0; they are {shares}")
    loaded = {name: list(_loader(name, parts[name])(split)) for name, share in shares.items() if share > 0}
    empty = [name for name, tasks in loaded.items() if not tasks]
    if empty:
        raise DataError(f"the parts {', '.join(empty)} of dataset=mix have no rows for {split!r}")
    if weights:
        size = min(len(tasks) / shares[name] for name, tasks in loaded.items())
        loaded = {name: _some(tasks, round(size * shares[name]), f"{seed}:{name}") for name, tasks in loaded.items()}
    return [
        replace(task, id=f"{name}/{task.id}", tags=(name, *task.tags))
        for name, tasks in loaded.items()
        for task in tasks
    ]


def _loader(name: str, part: Any) -> Callable[..., Any]:
    if callable(part):
        return part
    from rlpost.config import build

    if not isinstance(part, Mapping) or "_target_" not in part:
        raise ConfigError(f"dataset.parts.{name} is {part!r}; it must be a dataset option with _target_")
    return build(dict(part))


def _some(tasks: list[Task], count: int, seed: str) -> list[Task]:
    kept = sorted(random.Random(seed).sample(range(len(tasks)), min(count, len(tasks))))
    return [tasks[i] for i in kept]
