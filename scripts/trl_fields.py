"""Write rlpost/trl_fields.json: the fields of TRL's configuration classes, so that the check need not import TRL."""

import dataclasses
import enum
import json
import typing
from pathlib import Path
from typing import Any

from trl import DPOConfig, GRPOConfig, RewardConfig, SFTConfig

PLACE = Path(__file__).resolve().parent.parent / "rlpost" / "trl_fields.json"
CONFIGS = {"grpo": GRPOConfig, "sft": SFTConfig, "dpo": DPOConfig, "reward": RewardConfig}


def fields(config: type) -> dict[str, dict[str, Any]]:
    """Name -> type as written, default (null for none or for a factory), and the values of an enumeration."""
    found: dict[str, dict[str, Any]] = {}
    for f in dataclasses.fields(config):
        if f.init:
            found[f.name] = {"type": _written(f.type), "default": _plain(f.default)}
            legal = _choices(f.type)
            if legal:
                found[f.name]["choices"] = legal
    return found


def table() -> dict[str, dict[str, dict[str, Any]]]:
    """The fields of every trainer that rlpost wraps."""
    return {command: fields(config) for command, config in CONFIGS.items()}


def _written(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _choices(annotation: Any) -> list[str]:
    """Values of an enumeration that an annotation names, such as those of SchedulerType."""
    parts = typing.get_args(annotation) or (annotation,)
    return [str(member.value) for part in parts if isinstance(part, enum.EnumMeta) for member in part]


def _plain(default: Any) -> Any:
    return default if isinstance(default, bool | int | float | str) else None


if __name__ == "__main__":
    PLACE.write_text(json.dumps(table(), indent=0, sort_keys=True) + "\n", encoding="utf-8")
