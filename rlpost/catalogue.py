"""What there is: the recipes and options on disk, listed and explained without importing them."""

import copy
import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rlpost.errors import ConfigError
from rlpost.source import Doc, Knob, Signature, TargetMissing, parse_doc, signature, source_of
from rlpost.words import near

__all__ = ["Doc", "Knob", "Signature", "TargetMissing", "near", "parse_doc", "signature", "source_of"]

COMMANDS = ("sft", "grpo", "dpo", "reward", "eval", "sample", "run")
# Picked once per role, `scorer@models.judge=local`, by every command; no command picks one by itself.
ROLES = "scorer"
MANY = ("reward", "shaping", "keep", "token_weight", "regularizer", "metric", "aux")


def recipes_dir() -> Path:
    """The folder of recipes: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "recipes", package.parent / "recipes"):
        if (folder / "grpo.yaml").is_file():
            return folder
    raise ConfigError(f"the recipes of rlpost are missing beside {package}; install rlpost again")


# A PyYAML that was built without libyaml has the slow one only.
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SAFE):
    """YAML in which 1e-5 is a number, as in Hydra."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"
    ),
    list("-+0123456789."),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A recipe file as plain data; an empty file is an empty dictionary."""
    try:
        data = copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if data is not None and not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; a recipe file is a mapping of keys to values")
    return data or {}


@functools.lru_cache(maxsize=1024)  # a listing asks for the same commands with every recipe
def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def package_of(path: Path) -> str | None:
    """What the header `# @package ...` of a recipe file says, None without one."""
    found = re.search(r"^#\s*@package\s+(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1) if found else None


def axes(roots: Sequence[Path]) -> list[str]:
    """Folders that hold options, such as `objective`."""
    return sorted({path.name for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()})


def options(axis: str, roots: Sequence[Path]) -> dict[str, Path]:
    """Options of an axis by name; the first folder that has a name wins, as in Hydra's search path."""
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted((root / axis).rglob("*.yaml")):
            name = path.relative_to(root / axis).with_suffix("").as_posix()
            if not _is_bundle(axis, name):
                found.setdefault(name, path)
    return found


def _is_bundle(axis: str, name: str) -> bool:
    return axis == "launch" and name.startswith("accelerate/")


def defaults_of(data: dict[str, Any]) -> dict[str, Any]:
    """The picks of a defaults list by axis: `{objective: gspo, reward: [correct]}`, with or without `override`."""
    picks: dict[str, Any] = {}
    for entry in data.get("defaults") or []:
        if isinstance(entry, dict):
            for key, value in entry.items():
                axis = key.removeprefix("override ").removeprefix("optional ").strip().lstrip("/").split("@")[0]
                if key.lstrip("/").split("@")[0] != key.lstrip("/"):
                    value = [*_as_list(picks.get(axis)), *_as_list(value)]
                picks[axis] = value
    return picks


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def overridden(data: dict[str, Any]) -> dict[str, Any]:
    """Axes that a recipe's `override` entries pick, by axis."""
    entries = [entry for entry in data.get("defaults") or [] if isinstance(entry, dict)]
    return defaults_of({"defaults": [e for e in entries if next(iter(e)).startswith("override ")]})


def misordered(data: dict[str, Any]) -> bool:
    """True where a defaults list has an addition after an override, which Hydra does not allow."""
    kinds = [next(iter(e)).startswith("override ") for e in data.get("defaults") or [] if isinstance(e, dict)]
    return kinds != sorted(kinds)


def command_axes(command: str) -> dict[str, Any]:
    """The axes of a command and its default picks."""
    return defaults_of(read_yaml(recipes_dir() / f"{command}.yaml"))


def commands_of(recipe: Path) -> list[str]:
    """Commands a recipe works with: those that have every axis it picks."""
    wanted = set(defaults_of(read_yaml(recipe))) - {ROLES}
    found = [command for command in COMMANDS if wanted <= set(command_axes(command))]
    trained = [command for command in found if command in ("sft", "grpo", "dpo", "reward")]
    return trained or found
