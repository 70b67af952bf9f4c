"""The parts of memory put together: what each rank holds at its peak, and whether the device has it."""

from collections.abc import Mapping
from typing import Any

from rlpost.errors import OutOfMemory
from rlpost.plan import memory
from rlpost.plan.batch import numbers
from rlpost.plan.device import Device
from rlpost.plan.memory import Load

# A peak above this share of what is free is called tight: activations are an estimate.
TIGHT = 0.85
SHARDED = ("accelerate/zero3.yaml", "accelerate/fsdp.yaml")


def table(model: Any, tree: Mapping[str, Any], load: Load, second: Mapping[str, int], device: Device) -> dict[str, Any]:
    """Bytes by part and the peak of a rank. `second`: bytes of other models by role.

    peak = libraries + weights + optimizer + second models + max of
      generation: cache
      training: activations + logits + gradients on a CPU, where the C library keeps what gradients have left, and with
      accumulation, where they stay; else activations + logits + the largest gradient when the backward pass begins, or
      all gradients when it ends, whichever is more.
    Sharded ranks (ZeRO-3, FSDP) hold 1/ranks of weights, gradients and state, in float32 where training is mixed, and
    the two largest layers whole.
    """
    trainer, n = tree.get("trainer") or {}, numbers(tree)
    mixed = bool(trainer.get("bf16") or trainer.get("fp16"))
    name = memory.optimizer_name(tree)
    state = memory.optimizer(model, name)
    parts = {
        "weights": memory.weights(model),
        "gradients": memory.gradients(model),
        "optimizer": 2 * memory.gradients(model) if state is None else state,
        "second models": sum(second.values()),
        "activations": memory.activations(model, load, checkpointing=checkpointing(trainer), autocast=mixed),
    }
    if is_sharded(tree):
        parts |= _sharded(model, parts, n["ranks"], mixed)
    elif n["ranks"] > 1:
        parts["exchange of gradients"] = parts["gradients"]
    fixed = sum(parts.get(part, 0) for part in ("weights", "optimizer", "second models", "exchange of gradients"))
    rest = device.free - device.libraries - fixed - parts["activations"]
    parts["logits"] = memory.logits(model, load, device.kind, rest)
    parts["cache"] = memory.cache(model, load, engine=str((tree.get("rollout") or {}).get("engine", "transformers")))
    parts["libraries"] = device.libraries
    forward = parts["activations"] + parts["logits"]
    if n["accumulation"] > 1 or device.kind == "cpu":
        training = forward + parts["gradients"]
    else:
        training = max(forward + memory.largest(model), parts["gradients"])
    peak = fixed + device.libraries + max(training, parts["cache"])
    return {
        "parts": parts,
        "exact": [name for name in ("weights", "gradients", "optimizer", "second models") if name in parts],
        "peak": peak,
        "ranks in this memory": n["ranks"] if device.shared else 1,
        "device": {name: getattr(device, name) for name in ("name", "kind", "free", "total", "measured")},
        "optimizer": name if state is not None else f"{name}, counted as AdamW",
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained parameters": sum(p.numel() for p in memory.trainable(model)),
        "checkpointing": checkpointing(trainer),
    }


def verdict(facts: Mapping[str, Any]) -> str | None:
    """A sentence where the peak is close to what is free, None where there is room. Raises OutOfMemory above it."""
    ranks, free = facts["ranks in this memory"], facts["device"]["free"]
    need = facts["peak"] * ranks
    many = f" for {ranks} ranks" if ranks > 1 else ""
    told = f"the peak is estimated at {gib(need)}{many}, and {facts['device']['name']} has {gib(free)} free"
    if need > free:
        raise OutOfMemory(f"{told}; {advice(facts['parts'])}")
    return f"{told}, which is tight: activations are an estimate" if need > TIGHT * free else None


def advice(parts: Mapping[str, int]) -> str:
    """What to change, by the part that is largest."""
    most = max((name for name in parts if name != "libraries"), key=lambda name: parts[name])
    return {
        "activations": "make trainer.per_device_train_batch_size smaller and raise "
        "trainer.gradient_accumulation_steps, or set trainer.activation_checkpointing=true",
        "logits": "make trainer.per_device_train_batch_size smaller, or shorten rollout.max_tokens",
        "cache": "generate fewer completions at once (smaller trainer.per_device_train_batch_size or "
        "rollout.num_generations), or shorten rollout.max_tokens",
        "second models": "put second models on a server (scorer@models.<role>=server), or train adapters (peft=lora), "
        "whose reference needs no copy",
    }.get(most, "train adapters (peft=lora), shard with launch=accelerate_zero3, or take a smaller model")


def checkpointing(trainer: Mapping[str, Any]) -> bool:
    """Whether activations are computed again in the backward pass; TRL's default is that they are."""
    return bool(trainer.get("activation_checkpointing", trainer.get("gradient_checkpointing", True)))


def is_sharded(tree: Mapping[str, Any]) -> bool:
    """Whether the launcher cuts parameters over the ranks."""
    launch = tree.get("launch") or {}
    return launch.get("launcher") == "accelerate" and str(launch.get("config")) in SHARDED


def _sharded(model: Any, parts: Mapping[str, int], ranks: int, mixed: bool) -> dict[str, int]:
    """Parts of a rank: with mixed precision the weights that step are float32, as are gradients' sums and states."""
    trained = sum(p.numel() for p in memory.trainable(model))
    item = 4 if mixed else next(model.parameters()).element_size()
    layers = max(1, model.config.get_text_config().num_hidden_layers)
    whole = 2 * max(parts["weights"] // layers, memory.largest(model))
    master = trained * item // ranks if mixed else 0
    return {
        "weights": parts["weights"] // ranks + master + whole,
        "gradients": trained * item // ranks,
        "optimizer": parts["optimizer"] * trained * item // max(1, parts["gradients"]) // ranks,
    }


def gib(size: float) -> str:
    """Bytes as a person reads them."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}" if unit == 2**30 else f"{size / unit:.0f} {name}"
    return f"{size:.0f} B"
