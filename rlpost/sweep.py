"""Sweeps: every value of every swept key is judged before Hydra starts the first job."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlpost import allow, catalogue
from rlpost.config import (
    HydraException,
    Override,
    OverridesParser,
    check,
    compose,
    hydra_settings,
    refuse_endless,
    search_roots,
)
from rlpost.errors import ConfigError
from rlpost.origin import flatten
from rlpost.run import redact

# What differs between two compositions of Hydra's node by itself, and starts nothing.
_PASSIVE = ("overrides.", "runtime.", "job.override_dirname", "job.name", "job.config_name", "mode", "searchpath")


@dataclass(frozen=True)
class SweepPlan:
    """A sweep for Hydra: overrides with values forced, the keys that vary, and the folder if the user named one."""

    overrides: list[str]
    swept: list[str]
    folder: str | None


def sweep_plan(command: str, overrides: Sequence[str]) -> SweepPlan:
    """Check each value of each swept key with the others at their first value, then hand Hydra what it can take.

    Raises ConfigError with the faults of all values. Combinations are judged by the jobs.
    """
    if any(text.lstrip("+").startswith("resume=") for text in overrides):
        raise ConfigError("resume= continues one run and cannot be swept; leave -m out")
    refuse_endless(overrides)
    parser = OverridesParser.create()
    parsed: dict[str, Override] = {}
    faults: list[str] = []
    for text in overrides:
        try:
            parsed[text] = parser.parse_override(text)
        except HydraException as error:
            faults.append(f"cannot read the override {text!r} ({str(error).splitlines()[0]}); quote spaces and commas")
    if faults:
        raise ConfigError(faults)
    try:
        values = {text: _sweep_values(override) for text, override in parsed.items()}
    except (HydraException, ValueError, TypeError) as error:
        raise ConfigError(f"a sweep cannot be read ({str(error).splitlines()[0]}); write key=a,b") from error
    first = {text: one[0] for text, one in values.items()}
    faults += _sweep_faults(command, [*first.values()])
    for text, choices in values.items():
        for choice in choices[1:]:
            faults += _sweep_faults(command, [*({**first, text: choice}.values())])
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    faults = _secret_faults(parsed.values()) + _hydra_faults(command, list(first.values()))
    if faults:
        raise ConfigError(faults)
    folders = catalogue.axes(search_roots(list(first.values())))
    forced = [_forced(text, override, folders) for text, override in parsed.items()]
    swept = [o.key_or_group for o in parsed.values() if o.is_sweep_override() and not o.is_hydra_override()]
    named = [o.value() for o in parsed.values() if o.key_or_group == "hydra.sweep.dir"]
    return SweepPlan(forced, swept, str(named[-1]) if named else None)


def _secret_faults(parsed: Iterable[Override]) -> list[str]:
    """Hydra writes the overrides of a sweep into files of its own, which nobody redacts."""
    return [
        f"{o.key_or_group} looks like a secret, and Hydra writes the overrides of a sweep to disk: leave it out of -m "
        "and let the configuration name an environment variable"
        for o in parsed
        if redact.is_secret(o.key_or_group.rpartition(".")[2])
    ]


def _hydra_faults(command: str, overrides: list[str]) -> list[str]:
    """Launchers, callbacks and job settings start programs, so only Hydra's own and what is typed may decide them."""
    if allow.permits("hydra"):
        return []
    own = [o for o in overrides if o.lstrip("+~").startswith(("hydra.", "hydra/")) and "searchpath" not in o]
    whole = _decided(hydra_settings(command, overrides))
    try:
        plain = _decided(hydra_settings(command, own))
    except ConfigError:  # a launcher that only a recipe folder has
        plain = {}
    foreign = [key for key in {**whole, **plain} if whole.get(key) != plain.get(key)]
    if not foreign:
        return []
    more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
    return [
        f"a recipe folder sets hydra.{foreign[0]}{more}, and such "
        f"settings can start programs: type them on the command line, or add {allow.KEY}=[hydra]"
    ]


def _decided(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(settings).items() if not key.startswith(_PASSIVE)}


def _sweep_values(override: Override) -> list[str]:
    """The overrides that a swept one stands for; the ends of an interval, from which a sweeper draws."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if override.is_interval_sweep():
        interval = override.value()
        return [f"{key}={interval.start}", f"{key}={interval.end}"]  # type: ignore[union-attr]
    return [f"{key}={text}" for text in override.sweep_string_iterator()]


def _sweep_faults(command: str, overrides: list[str]) -> list[str]:
    try:
        check(compose(command, overrides))
    except ConfigError as error:
        return error.faults
    return []


def _forced(text: str, override: Override, folders: list[str]) -> str:
    """Hydra refuses keys that no YAML has; rlpost has judged them, so they are forced."""
    plain = override.is_hydra_override() or override.key_or_group.startswith(("hydra.", "hydra/"))
    if plain or override.key_or_group in folders or override.is_delete():
        return text
    return f"++{text.lstrip('+')}"
