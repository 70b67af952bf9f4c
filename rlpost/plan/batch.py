"""The arithmetic of a batch, from tasks and rows to optimizer steps, and the nearest values that come out."""

from collections.abc import Mapping
from typing import Any

from rlpost.checks.trainer import batch_faults, world_size

# How far from a value that does not fit the nearest one is looked for.
REACH = 512


def numbers(tree: Mapping[str, Any]) -> dict[str, int]:
    """Rows per micro-batch, micro-batches and ranks, as TRL's fields say or its defaults."""
    trainer = tree.get("trainer") or {}
    return {
        "rows": int(trainer.get("per_device_train_batch_size", 8)),
        "accumulation": int(trainer.get("gradient_accumulation_steps", 1)),
        "ranks": int(world_size(dict(tree))),
    }


def arithmetic(command: str, tree: Mapping[str, Any], tasks: int, steps: int) -> dict[str, Any]:
    """The batch as facts. `tasks`: of the training split; `steps`: optimizer steps of the run.

    grpo: rows a step = rows * accumulation * ranks; groups a step = rows a step / num_generations; a cycle of
    `steps_per_generation / accumulation` steps shares one set of rollouts, `num_iterations` times;
    epochs = steps / num_iterations * groups a step / tasks.
    Others: a row is a task, epochs = steps * rows a step / tasks.
    """
    n = numbers(tree)
    per_step = n["rows"] * n["accumulation"] * n["ranks"]
    facts: dict[str, Any] = {
        "tasks": tasks,
        "ranks": n["ranks"],
        "rows per micro-batch": n["rows"],
        "micro-batches per step and rank (accumulation)": n["accumulation"],
        "rows per step": per_step,
    }
    if command != "grpo":
        return {**facts, "steps": steps, "epochs": steps * per_step / tasks if tasks else 0.0}
    trainer, group = tree["trainer"], int(tree["rollout"]["num_generations"])
    cycle = cycle_of(tree)
    repeats = int(trainer.get("num_iterations", 1))
    return {
        **facts,
        "completions per group": group,
        "groups per step": per_step / group,
        "groups per micro-batch": n["rows"] / group,
        "steps per generation": cycle,
        "groups per generation": per_step * cycle / group,
        "completions per generation": per_step * cycle,
        "steps on the same rollouts": cycle * repeats,
        "steps": steps,
        "epochs": steps / repeats * per_step / group / tasks if tasks else 0.0,
    }


def cycle_of(tree: Mapping[str, Any]) -> int:
    """Optimizer steps that one set of rollouts is cut into, 1 unless trainer.steps_per_generation says more."""
    trainer = tree["trainer"]
    accumulation = int(trainer.get("gradient_accumulation_steps", 1))
    return max(1, int(trainer.get("steps_per_generation") or accumulation) // accumulation)


def generation_fault(tree: Mapping[str, Any]) -> str | None:
    """trainer.steps_per_generation that is no whole number of optimizer steps, with the nearest that are."""
    trainer = tree.get("trainer") or {}
    accumulation, span = int(trainer.get("gradient_accumulation_steps", 1)), trainer.get("steps_per_generation")
    if not span or int(span) % accumulation == 0:
        return None
    below = int(span) // accumulation * accumulation
    nearest = " or ".join(str(x) for x in (below, below + accumulation) if x)
    return (
        f"trainer.steps_per_generation={span} micro-batches are no whole number of optimizer steps of "
        f"trainer.gradient_accumulation_steps={accumulation}; the nearest that are: {nearest}"
    )


def nearest(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each knob of a GRPO batch without whole groups: its value, and the nearest below and above that give them.

    Each is changed alone; empty where the batch comes out. The check of the run itself is asked.
    """
    if not batch_faults(dict(tree)):
        return []
    knobs = (
        ("trainer", "per_device_train_batch_size", 8),
        ("trainer", "gradient_accumulation_steps", 1),
        ("rollout", "num_generations", 8),
    )
    found = []
    for node, key, default in knobs:
        now = int((tree.get(node) or {}).get(key, default))
        below = next((v for v in range(now - 1, 0, -1) if _fits(tree, node, key, v)), None)
        above = next((v for v in range(now + 1, now + REACH) if _fits(tree, node, key, v)), None)
        found.append({"key": f"{node}.{key}", "now": now, "nearest below": below, "nearest above": above})
    return found


def _fits(tree: Mapping[str, Any], node: str, key: str, value: int) -> bool:
    return not batch_faults({**tree, node: {**(tree.get(node) or {}), key: value}})
