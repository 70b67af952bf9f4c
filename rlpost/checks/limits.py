"""Numbers that have the right type and make no sense: what they count has bounds."""

import math
from collections.abc import Mapping
from typing import Any

from rlpost.origin import flatten

# Least and largest value; None: without a bound. A key that ends in a dot stands for all keys below it.
LIMITS: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**32 - 1),
    "evaluation.tasks": (0, None),
    "evaluation.num_generations": (1, None),
    "evaluation.temperature": (0, None),
    "launch.num_processes": (1, None),
    "ledger.": (0, 1),
    "trainer.learning_rate": (0, None),
    "trainer.per_device_train_batch_size": (1, None),
    "trainer.gradient_accumulation_steps": (1, None),
    "trainer.max_steps": (-1, None),
    "trainer.num_train_epochs": (0, None),
    "trainer.save_steps": (0, None),
    "trainer.logging_steps": (0, None),
    "trainer.warmup_steps": (0, None),
    "trainer.weight_decay": (0, None),
    "trainer.max_grad_norm": (0, None),
    "trainer.keep_checkpoints": (1, None),
    "kernels.completions_at_once": (1, None),
}
ABOVE_ZERO = ("watchdog.", "trainer.max_minutes")
# Elsewhere an infinite number may mean that there is no bound, as for a clip.
FINITE = ("trainer.", "rollout.", "evaluation.", "watchdog.")


def limit_faults(tree: Mapping[str, Any]) -> list[str]:
    """Values out of their bounds, and numbers that are none (nan), wherever they stand."""
    name = (tree.get("run") or {}).get("name")
    found = ["run.name: must be at most 200 characters long"] if isinstance(name, str) and len(name) > 200 else []
    for key, value in flatten(dict(tree)).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found += _fault(key, value)
    return found


def _fault(key: str, value: float) -> list[str]:
    if isinstance(value, float) and math.isnan(value):
        return [f"{key}: must be a number, not nan"]
    weighs = key.startswith("reward.") and key.endswith(".weight")
    if isinstance(value, float) and math.isinf(value) and (key.startswith(FINITE) or weighs):
        return [f"{key}: must be finite, not {value}"]
    if key.startswith(ABOVE_ZERO) and value <= 0:
        return [f"{key}: must be above 0, not {value}; null: no limit"]
    least, largest = next((LIMITS[name] for name in LIMITS if key == name or _below(key, name)), (None, None))
    if least is not None and value < least:
        return [f"{key}: must be at least {least:g}, not {value}"]
    if largest is not None and value > largest:
        return [f"{key}: must be at most {largest:.10g}, not {value}"]
    return []


def _below(key: str, name: str) -> bool:
    return name.endswith(".") and key.startswith(name)
