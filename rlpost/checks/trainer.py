"""The trainer node against TRL's fields, and whether the batch divides into whole groups."""

import functools
import json
import os
from pathlib import Path
from typing import Any

from rlpost.checks.annotation import wrong
from rlpost.words import near

_ANY = {
    "output_dir": "run.dir",
    "run_name": "run.name",
    "report_to": "logger",
    "seed": "seed",
    "data_seed": "seed",
    "resume_from_checkpoint": "resume",
    "model_init_kwargs": "the knobs of model",
    "hub_token": "nothing: a run folder holds no secrets; set HF_TOKEN in the environment",
    "remove_unused_columns": "nothing: rlpost keeps every column",
}
_CLIP = "objective.clip_low and objective.clip_high"
OWNED: dict[str, dict[str, str]] = {
    "grpo": {
        "beta": "regularizer=[kl_k3] and regularizer.kl_k3.coef",
        "loss_type": "objective and aggregate, or a recipe such as recipe=dapo",
        "temperature": "rollout.temperature",
        "top_p": "rollout.top_p",
        "top_k": "rollout.top_k",
        "min_p": "an option of rollout",
        "repetition_penalty": "an option of rollout",
        "generation_kwargs": "an option of rollout",
        "cache_implementation": "an option of rollout",
        "num_generations": "rollout.num_generations",
        "num_generations_eval": "rollout.num_generations",
        "max_completion_length": "rollout.max_tokens",
        "epsilon": "objective.clip_low",
        "epsilon_high": "objective.clip_high",
        "delta": _CLIP,
        "scale_rewards": "advantage (group_zscore, group_centred, ...)",
        "multi_objective_aggregation": "advantage (gdpo normalises each reward)",
        "reward_weights": "reward.<name>.weight",
        "importance_sampling_level": "objective (gspo has the ratio per sequence)",
        "use_vllm": "rollout.engine",
        "use_transformers_paged": "rollout.engine",
        "use_transformers_continuous_batching": "rollout.engine",
        "mask_truncated_completions": "keep",
        "generation_batch_size": "trainer.per_device_train_batch_size and trainer.gradient_accumulation_steps",
        "top_entropy_quantile": "token_weight",
        "use_adaptive_entropy": "regularizer",
        "entropy_coef": "regularizer.<name>.coef",
        "entropy_coef_delta": "regularizer.<name>.coef",
        "entropy_coef_max": "regularizer.<name>.coef",
        "entropy_coef_min": "regularizer.<name>.coef",
        "entropy_target": "regularizer.<name>.coef",
        "off_policy_mask_threshold": "token_weight",
        "sapo_temperature_neg": "objective",
        "sapo_temperature_pos": "objective",
        "vespo_k_neg": "objective",
        "vespo_k_pos": "objective",
        "vespo_lambda_neg": "objective",
        "vespo_lambda_pos": "objective",
        "use_bias_correction_kl": "regularizer",
        "sync_ref_model": "reference=moving_average",
        "ref_model_mixup_alpha": "reference=moving_average and reference.decay, which is 1 - alpha",
        "ref_model_sync_steps": "reference=moving_average and reference.every",
        "use_liger_kernel": "nothing: rlpost scores with its own kernel",
        "shuffle_dataset": "curriculum",
        "max_tool_calling_iterations": "an option of rollout",
        "log_completions": "nothing: rollouts.jsonl has them all",
    },
    "sft": {
        "loss_type": "sft_loss and aggregate",
        "use_liger_kernel": "nothing: rlpost scores with its own kernel",
        "packing": "nothing: rlpost does not pack rows",
        "padding_free": "nothing: rlpost pads its micro-batches",
        "assistant_only_loss": "nothing: only the assistant's tokens train",
        "completion_only_loss": "nothing: only the assistant's tokens train",
    },
    "dpo": {
        "beta": "preference.beta",
        "loss_type": "preference (dpo, ipo, rpo, ...)",
        "label_smoothing": "preference.label_smoothing",
        "loss_weights": "preference",
        "use_liger_kernel": "nothing: rlpost scores with its own kernel",
        "precompute_ref_log_probs": "nothing: rlpost scores with its own reference",
        "sync_ref_model": "nothing: the reference of rlpost stays as it was loaded",
    },
    "reward": {"center_rewards_coefficient": "reward_model"},
}


# Fields of `trainer` that TRL does not have.
OWN: dict[str, dict[str, Any]] = {
    "keep_checkpoints": {"type": "int", "default": 2},
    "max_minutes": {"type": "float | None", "default": None},
    "optimizer_from": {"type": "str | None", "default": None},
}


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    return json.loads((Path(__file__).resolve().parent.parent / "trl_fields.json").read_text(encoding="utf-8"))


def owner(command: str, name: str) -> str | None:
    """Where rlpost sets what a TRL field of this name would set, None if the field is the user's."""
    if name.startswith("vllm_"):
        return "rollout.engine"
    return OWNED.get(command, {}).get(name) or _ANY.get(name)


def trainer_faults(command: str, node: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Unknown, owned and ill-typed fields of `trainer`."""
    legal = _table().get(command)
    if legal is None:
        return _plain_faults(node, schema)
    legal = {**legal, **OWN}
    found = []
    for name, value in node.items():
        where = owner(command, name)
        if where:
            found.append(f"trainer.{name} is decided elsewhere in rlpost: set {where}")
        elif name not in legal:
            hint = near(name, legal) or f"; see the fields of TRL's configuration for {command}"
            found.append(f"unknown key 'trainer.{name}'{hint}")
        else:
            found += _value_faults(name, value, legal[name])
    return found


def _value_faults(name: str, value: Any, spec: dict[str, Any]) -> list[str]:
    choices = spec.get("choices")
    if choices and isinstance(value, str) and value not in choices:
        return [f"trainer.{name}={value!r} must be one of {', '.join(choices)}{near(value, choices)}"]
    why = wrong(value, spec["type"])
    return [f"trainer.{name}: {why} (TRL's default is {spec['default']!r})"] if why else []


def _plain_faults(node: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    found = []
    for name, value in node.items():
        if name not in schema:
            found.append(f"unknown key 'trainer.{name}'{near(name, schema) or '; it has ' + ', '.join(schema)}")
        elif value is not None and schema[name] is not None:
            why = wrong(value, type(schema[name]).__name__)
            if why:
                found.append(f"trainer.{name}: {why} (default {schema[name]!r})")
    return found


def batch_faults(tree: dict[str, Any]) -> list[str]:
    """GRPO's rows of a step must be whole groups, and every micro-batch of every process needs at least one."""
    trainer, rollout = tree.get("trainer") or {}, tree.get("rollout") or {}
    rows, steps = trainer.get("per_device_train_batch_size", 8), trainer.get("gradient_accumulation_steps", 1)
    group, world = rollout.get("num_generations"), world_size(tree)
    if not all(type(x) is int and x > 0 for x in (rows, steps, group, world)):
        return []
    assert isinstance(group, int)
    if _divides(rows, steps, world, group):
        return []
    below = next((b for b in range(rows - 1, 0, -1) if _divides(b, steps, world, group)), None)
    above = next(b for b in range(rows + 1, rows + group * 2 + 1) if _divides(b, steps, world, group))
    nearest = f"{below} or {above}" if below else str(above)
    total = rows * steps * world
    cut = f"{rows} rows x {steps} micro-batches x {world} process{'es' if world > 1 else ''} = {total} rows a step"
    why = (
        f"are {total / group:g} groups"
        if total % group
        else f"are {total // group} groups for {steps * world} micro-batches, which need one each"
    )
    return [
        f"the batch does not hold whole groups: {cut} {why} of rollout.num_generations={group}; the nearest "
        f"trainer.per_device_train_batch_size that does is {nearest}"
    ]


def _divides(rows: int, steps: int, world: int, group: int) -> bool:
    total = rows * steps * world
    return total % group == 0 and total // group >= steps * world


def world_size(tree: dict[str, Any]) -> Any:
    """Processes of the run: what the launcher says inside a rank, what `launch` asks for before."""
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return (tree.get("launch") or {}).get("num_processes", 1)
