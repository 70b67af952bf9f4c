"""What of a run folder is exported: the final model or a checkpoint, and the configuration it was trained with."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rlpost.errors import ConfigError, ModelError
from rlpost.run import checkpoint, files
from rlpost.words import near

ADAPTER = "adapter_config.json"
TRAINING = ("sft", "grpo", "dpo", "reward")


@dataclass(frozen=True)
class Source:
    """`weights` is the folder that the trainer saved, `label` what to call it, `tree` the run's configuration."""

    run: Path
    weights: Path
    label: str
    verb: str
    tree: dict[str, Any]

    @property
    def adapter(self) -> bool:
        """Whether an adapter was trained and saved, not the weights themselves."""
        return (self.weights / ADAPTER).is_file()

    @property
    def dtype(self) -> str:
        """The type of the weights that the run loaded."""
        return (self.tree["model"] or {}).get("dtype", "float32")


def find(run: Path, wanted: str | None = None) -> Source:
    """The final model of a run, its newest whole checkpoint where it has not ended well, or the checkpoint `wanted`.

    Raises ConfigError where the folder is no run that trains, or has no such checkpoint, ModelError where nothing that
    was saved holds weights in safetensors.
    """
    verb, tree = opened(run)
    found = Source(run, *_place(run, wanted), verb, tree)
    names = {place.name for place in found.weights.iterdir()}
    if not any(name.endswith(".safetensors") for name in names):
        sharded = any("global_step" in name or "pytorch_model_fsdp" in name for name in names)
        raise ModelError(
            f"{found.weights} holds no weights in safetensors"
            + ("; they are sharded: end the run, or gather them with the tool of its launcher first" if sharded else "")
        )
    return found


def opened(run: Path) -> tuple[str, dict[str, Any]]:
    """The verb and the configuration of a run that trains. Raises ConfigError where the folder is none."""
    if not run.is_dir() or not (run / "config.yaml").is_file():
        raise ConfigError(f"{run} is not a run folder" + (": it has no config.yaml" if run.is_dir() else ""))
    if (run / "stages.json").is_file():
        stages = files.read_json(run / "stages.json")
        trained = [str(run / name) for name, stage in stages.items() if stage["run"] in TRAINING]
        raise ConfigError(f"{run} is a pipeline; export one of its stages: {', '.join(trained) or 'none trains'}")
    try:
        verb = (files.read_json(run / "environment.json") or {}).get("verb", "")
    except ValueError as error:
        raise ConfigError(f"{run}/environment.json is damaged: {error}") from error
    if verb not in TRAINING:
        raise ConfigError(f"{run} is a run of `rlpost {verb}`, which saves no model; there are {', '.join(TRAINING)}")
    try:
        tree = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{run}/config.yaml is damaged: {' '.join(str(error).split())}") from error
    return verb, tree


def _place(run: Path, wanted: str | None) -> tuple[Path, str]:
    checkpoints = run / "checkpoints"
    if wanted is not None:
        return _named(checkpoints, wanted)
    ended = (files.read_json(run / "done.json") or {}).get("status") == "ok"
    final = run / "model"
    if ended and final.is_dir():
        return final, "the final model"
    newest = checkpoint.latest(checkpoints)
    if newest.path is not None:
        return newest.path, f"the checkpoint {newest.path.name}, as the run has not ended well"
    if final.is_dir():
        return final, "the final model"
    raise ModelError(f"{run} has saved neither a model nor a whole checkpoint. {' '.join(newest.skipped)}".strip())


def _named(checkpoints: Path, wanted: str) -> tuple[Path, str]:
    places = [place.name for place in checkpoints.glob("*") if place.is_dir() and not place.name.startswith(".")]
    if wanted.isdigit():
        wanted = f"step-{int(wanted):06d}"
    if wanted not in places:
        there = ", ".join(sorted(places)) or "none"
        raise ConfigError(f"--checkpoint {wanted}: there is none of that name{near(wanted, places)}; there are {there}")
    faults = checkpoint.verify(checkpoints / wanted)
    if faults:
        raise ModelError(f"the checkpoint {wanted} is damaged: {faults[0]}")
    return checkpoints / wanted, f"the checkpoint {wanted}"


def started(source: Source, dtype: str = "float32") -> Any:
    """The bundle that the run started from, in `dtype`: its model option, with the weights of `init` where it had some.

    Raises ModelError where it cannot be built again, as when the folder of `init` is gone.
    """
    from rlpost.config import build
    from rlpost.models.roles import start_from

    node = dict(source.tree["model"])
    if "dtype" in node:
        node["dtype"] = dtype
    return start_from(build(node)(), source.tree.get("init"))


def trained(source: Source, bundle: Any) -> Any:
    """The bundle with what the run trained: its weights, or its adapter on top, not merged. Changes `bundle`.

    Raises ModelError where the adapter or the weights do not fit.
    """
    from rlpost.models.roles import start_from
    from rlpost.models.trusted import safe_adapter

    if not source.adapter:
        return start_from(bundle, source.weights)
    from peft import PeftModel

    try:
        safe_adapter(source.weights)
        model = PeftModel.from_pretrained(bundle.model, str(source.weights))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(
            f"the adapter in {source.weights} does not fit {type(bundle.model).__name__}: {error}"
        ) from error
    return replace(bundle, model=model.eval())
