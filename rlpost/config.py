"""Composition: Hydra picks the options, values are laid over them as if forced, and plain dictionaries leave."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlpost import allow, catalogue
from rlpost.errors import ConfigError
from rlpost.nodes import RESERVED, ROLLOUT_RESERVED, build
from rlpost.origin import flatten, nearest_origin, origins, picks_of
from rlpost.run import redact

COMMAND_LINE = "command line"
# Hydra's grammar reads a list in a time that grows with its square: 1000 values take a third of a second, 10,000 15 s.
MOST_VALUES = 2000
_ALL_CHOICES = defaults_list._create_interpolation_map
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
# What Hydra raises over option files that it cannot read.
UNREADABLE = (HydraException, OmegaConfBaseException, yaml.YAMLError, OSError, ValueError, TypeError, AttributeError)

__all__ = [
    "RESERVED", "ROLLOUT_RESERVED", "Config", "HydraException", "Override", "OverridesParser", "build", "check",
    "compose", "flatten", "to_yaml",
]  # fmt: skip

# Read by interpolations: only what was allowed by name, since a file may be somebody else's.
OmegaConf.register_new_resolver("oc.env", allow.variable, replace=True)


@dataclass(frozen=True)
class Config:
    """A composed configuration. `faults` are what composition already found wrong; `check` adds its own and raises."""

    command: str
    tree: dict[str, Any]
    origin: dict[str, str]
    picks: dict[str, list[str]]
    overrides: list[str]
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    schema: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Request:
    """The overrides of a call, sorted by who handles them."""

    roots: list[Path]
    hydra: list[str] = field(default_factory=list)
    picks: list[str] = field(default_factory=list)
    picked: dict[str, list[str]] = field(default_factory=dict)
    values: list[Override] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def compose(command: str, overrides: Sequence[str] = ()) -> Config:
    """Compose `recipes/<command>.yaml` with group picks through Hydra and values laid over as if forced."""
    if command not in catalogue.COMMANDS:
        legal = ", ".join(catalogue.COMMANDS)
        raise ConfigError(
            f"unknown command {command!r}{catalogue.near(command, catalogue.COMMANDS)}; there are {legal}"
        )
    request = _sort(command, list(overrides))
    cfg, files = _compose_groups(command, request)
    _lay_debug(cfg, command)
    base: Any = OmegaConf.to_container(cfg, resolve=False)
    origin = origins(files, command, request.roots)
    for override in request.values:
        _apply(cfg, override, origin, request.faults)
    tree = _resolve(cfg, request.faults)
    redact.learn(tree)
    for axis in catalogue.command_axes(command):
        if axis not in ("recipe", "debug"):
            tree.setdefault(axis, {} if axis in catalogue.MANY else None)
    return Config(
        command=command,
        tree=tree,
        origin={key: origin.get(key, nearest_origin(key, origin)) for key in flatten(tree)},
        picks=picks_of(files),
        overrides=list(overrides),
        faults=request.faults,
        warnings=_clashes(request),
        schema=base,
    )


def check(cfg: Config) -> None:
    """Raise ConfigError with every fault of a configuration; imports no model code."""
    from rlpost.check import faults

    found = [*cfg.faults, *faults(cfg)]
    if found:
        raise ConfigError(list(dict.fromkeys(found)))


def to_yaml(tree: dict[str, Any]) -> str:
    """A tree as YAML that composes to the same values."""
    return OmegaConf.to_yaml(OmegaConf.create(tree))


def refuse_endless(overrides: Sequence[str]) -> None:
    """Raises ConfigError where an override lists more values than Hydra reads in a second or two."""
    faults = [
        f"the override {text[:60]!r}... lists {count} values; a command line may list {MOST_VALUES}: "
        "write more of them into a recipe file"
        for text in overrides
        if (count := _QUOTED.sub("", text).count(",") + 1) > MOST_VALUES
    ]
    if faults:
        raise ConfigError(faults)


def search_roots(overrides: Sequence[str]) -> list[Path]:
    """The folders that options come from: rlpost's own first, then those of `hydra.searchpath`."""
    roots = [catalogue.recipes_dir()]
    for text in overrides:
        if text.lstrip("+").startswith("hydra.searchpath="):
            try:
                places: Any = OverridesParser.create().parse_override(text).value() or []
            except (HydraException, ValueError):
                places = None
            if not isinstance(places, list):
                raise ConfigError(f"cannot read {text[:200]!r}; write hydra.searchpath=['file:///absolute/folder']")
            roots += [_folder(str(place)) for place in places]
    return roots


def _folder(place: str) -> Path:
    if place.startswith("pkg://"):
        allow.require(place.removeprefix("pkg://").replace("/", "."), "hydra.searchpath")  # Hydra imports it
        return catalogue.source_of(place.removeprefix("pkg://").replace("/", ".")).parent
    path = Path(unquote(urlparse(place).path) if place.startswith("file:") else place).expanduser()
    if not path.is_dir():
        raise ConfigError(f"hydra.searchpath names {place!r}, which is no folder; write file:///absolute/folder")
    return path


def _sort(command: str, overrides: list[str]) -> _Request:
    refuse_endless(overrides)
    request = _Request(roots=search_roots(overrides))
    parser = OverridesParser.create()
    folders = catalogue.axes(request.roots)
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, ValueError) as error:
            why = str(error).splitlines()[0]
            request.faults.append(
                f"cannot read the override {text[:200]!r} ({why}); write key=value and quote spaces and commas"
            )
            continue
        if override.key_or_group == allow.KEY:
            request.faults.append(allow.MISPLACED)
        elif override.key_or_group == "hydra.run.dir":  # Hydra's own folder is never made
            request.faults.append(f"{text!r} names no folder of rlpost; the folder of a run is run.dir=<folder>")
        elif override.is_hydra_override() or override.key_or_group.startswith(("hydra.", "hydra/")):
            request.hydra.append(text)
        elif override.is_sweep_override():
            request.faults.append(
                f"{text!r} lists several values; add -m for a sweep, or quote a value that has a comma"
            )
        elif override.key_or_group in folders and (override.is_delete() or _is_pick(override.value())):
            _pick(command, text, override, request)
        else:
            request.values.append(override)
    return request


def _is_pick(value: Any) -> bool:
    return (
        value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    )


def _pick(command: str, text: str, override: Override, request: _Request) -> None:
    """Hand a pick to Hydra if it can be met; otherwise say why not and compose without it."""
    axis = override.key_or_group
    if override.is_delete():
        request.picks.append(text)
        return
    if axis == catalogue.ROLES:
        _pick_role(text, override, request)
        return
    if axis not in catalogue.command_axes(command):
        having = [c for c in catalogue.COMMANDS if axis in catalogue.command_axes(c)]
        where = f"commands with it: {', '.join(having)}" if having else "no command has it"
        if having and command == "run":
            where += f"; for every stage of the pipeline: 'pipeline.with=[\"{text}\"]'"
        request.faults.append(f"{text!r}: `rlpost {command}` has no {axis}; {where}")
        return
    value: Any = override.value()
    names: list[str] = value if isinstance(value, list) else [] if value is None else [value]
    legal = catalogue.options(axis, request.roots)
    bad = [name for name in names if name not in legal]
    if value is None:
        text = f"{axis}=[]" if axis == "recipe" or axis in catalogue.MANY else f"~{axis}"
    for name in dict.fromkeys(bad):
        hint = catalogue.near(name, legal) or f"; there are {', '.join(legal) or 'none'}"
        request.faults.append(f"unknown {axis} {name!r}{hint}")
    if axis == "recipe":
        bad += [name for name in names if name in legal and not _fits(command, name, legal[name], request)]
    if not bad:
        request.picks.append(text)
        request.picked[axis] = names
    elif axis == "recipe" and len(bad) < len(names):
        kept = [name for name in names if name not in bad]
        request.picks.append(f"recipe=[{','.join(kept)}]")
        request.picked[axis] = kept


def _pick_role(text: str, override: Override, request: _Request) -> None:
    """`scorer@models.<role>=<option>`: the second model of a role."""
    name, legal = override.value(), catalogue.options(catalogue.ROLES, request.roots)
    if not (override.package or "").startswith("models."):
        request.faults.append(f"{text!r}: a scorer is picked for a role, such as scorer@models.judge={name}")
    elif not isinstance(name, str) or name not in legal:
        hint = catalogue.near(str(name), legal) or f"; there are {', '.join(legal)}"
        request.faults.append(f"unknown scorer {name!r}{hint}")
    else:
        request.picks.append(f"+scorer@{override.package}={name}")


def _without_repeats(request: _Request) -> list[str]:
    """The picks; a second model that a picked recipe brings is replaced (no "+"), any other is added."""
    legal = catalogue.options("recipe", request.roots)
    texts = [legal[name].read_text(encoding="utf-8") for name in request.picked.get("recipe", []) if name in legal]

    def replaces(pick: str) -> bool:
        role = pick.removeprefix("+").partition("=")[0]
        return pick.startswith("+scorer@") and any(f"{role}:" in text for text in texts)

    return [pick.removeprefix("+") if replaces(pick) else pick for pick in request.picks]


def _fits(command: str, name: str, path: Path, request: _Request) -> bool:
    data = catalogue.read_yaml(path)
    wanted = catalogue.defaults_of(data)
    missing = set(wanted) - set(catalogue.command_axes(command)) - {catalogue.ROLES}
    if missing:
        right = catalogue.commands_of(path)
        where = " or ".join(f"`rlpost {c} recipe={name}`" for c in right) or "no command"
        request.faults.append(
            f"recipe={name} picks {', '.join(sorted(missing))}, which `rlpost {command}` does not have; "
            f"it is for {where}"
        )
        return False
    good = True
    if catalogue.misordered(data):
        request.faults.append(f"{path}: additions such as `/reward@reward.x` go before the `override` entries")
        good = False
    for axis, value in wanted.items():
        legal = catalogue.options(axis, request.roots)
        for option in value if isinstance(value, list) else [value]:
            if option is not None and option not in legal:
                hint = catalogue.near(option, legal) or f"; there are {', '.join(legal) or 'none'}"
                request.faults.append(f"{path} picks the unknown {axis} {option!r}{hint}")
                good = False
    return good


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, which keeps the files that it composed, in order, and makes a map only where it is read."""

    found: Sequence[ResultDefault] = ()

    def load_configuration(self, *given: Any, **more: Any) -> DictConfig:
        defaults_list._create_interpolation_map = _choices
        try:
            return super().load_configuration(*given, **more)
        finally:
            defaults_list._create_interpolation_map = _ALL_CHOICES

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: Any) -> DictConfig:
        self.found = defaults
        return super()._compose_config_from_defaults_list(defaults=defaults, repo=repo)


def _choices(overrides: Any, defaults: list[Any], self_added: bool) -> DictConfig:
    """What a pick by interpolation reads; Hydra makes it for every file, which is a quarter of its time."""
    used = any(default.is_interpolation() for default in defaults)
    return _ALL_CHOICES(overrides, defaults, self_added) if used else OmegaConf.create()


def _compose_groups(command: str, request: _Request) -> tuple[DictConfig, list[Any]]:
    overrides = [*request.hydra, *_without_repeats(request)]
    outer = GlobalHydra.instance()
    running, outer.hydra = outer.hydra, None
    try:
        with initialize_config_dir(config_dir=str(request.roots[0]), version_base="1.3"):
            loader = _Loader(GlobalHydra.instance().config_loader().get_search_path())
            cfg = loader.load_configuration(command, overrides, RunMode.RUN, from_shell=False)
    except UNREADABLE as error:
        request.faults.append(" ".join(str(error).split()))
        raise ConfigError(request.faults) from error
    finally:
        outer.hydra = running  # inside a job of a sweep, Hydra's own instance goes on
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    return cfg, [d for d in loader.found if d.config_path and not str(d.config_path).startswith("hydra/")]


def hydra_settings(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What Hydra's own node would be: launcher, sweeper, callbacks, logging, folders. Raises ConfigError."""
    request = _sort(command, list(overrides))
    try:
        with initialize_config_dir(config_dir=str(request.roots[0]), version_base="1.3"):
            cfg = hydra_compose(command, [*request.hydra, *_without_repeats(request)], return_hydra_config=True)
    except UNREADABLE as error:
        raise ConfigError(" ".join(str(error).split())) from error
    found: Any = OmegaConf.to_container(cfg.hydra, resolve=False)
    return found


def _lay_debug(cfg: DictConfig, command: str) -> None:
    """A debug option has one section per command; the command's own is laid over all but the command line."""
    sections = cfg.pop("debug", None)
    values = sections.get(command) if isinstance(sections, DictConfig) else None
    if values is not None:
        cfg.merge_with(values)


def _apply(cfg: DictConfig, override: Override, origin: dict[str, str], faults: list[str]) -> None:
    key = override.key_or_group
    try:
        if override.is_delete():
            _delete(cfg, key, faults)
            return
        value = override.value()
        node = OmegaConf.select(cfg, key) if not OmegaConf.is_missing(cfg, key) else None
        before = OmegaConf.select(cfg, f"{key}._target_") if isinstance(node, DictConfig) else None
        fresh = isinstance(value, dict) and value.get("_target_", before) != before  # another function, other knobs
        OmegaConf.update(cfg, key, value, merge=not fresh, force_add=True)
    except (OmegaConfBaseException, TypeError, AttributeError, ValueError) as error:
        faults.append(f"cannot set {key}={override.get_value_string()!s}: {' '.join(str(error).split())}")
        return
    for leaf in flatten(value, key):
        origin[leaf] = COMMAND_LINE


def _delete(cfg: DictConfig, key: str, faults: list[str]) -> None:
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or last not in node:
        keys = flatten(OmegaConf.to_container(cfg, resolve=False))
        faults.append(f"~{key}: there is no such key to remove{catalogue.near(key, keys)}")
        return
    del node[last]


def _resolve(cfg: DictConfig, faults: list[str]) -> dict[str, Any]:
    try:
        tree = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        faults.append(f"an interpolation cannot be resolved: {' '.join(str(error).split())}")
        tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _clashes(request: _Request) -> list[str]:
    """Axes that two recipes pick differently: the later one wins, and the user is told."""
    legal = catalogue.options("recipe", request.roots)
    seen: dict[str, tuple[str, Any]] = {}
    lines = []
    for recipe in request.picked.get("recipe", []):
        for axis, option in catalogue.overridden(catalogue.read_yaml(legal[recipe])).items():
            if axis in seen and seen[axis][1] != option and axis not in request.picked:
                lines.append(
                    f"recipes {seen[axis][0]} and {recipe} both pick {axis}: "
                    f"{recipe}'s {option} is used, not {seen[axis][1]}"
                )
            seen[axis] = (recipe, option)
    return lines


def environment_rank() -> int:
    """The rank of this process, 0 when it runs alone."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
