"""Which code a configuration may name: rlpost's own, and what the person at the command line allows.

A recipe folder, a pipeline and the configuration in a run folder can come from somebody else, so nothing that is
written in a file counts as permission. It is given with `allow_targets=[my_package]` on the command line, or in the
environment variable `RLPOST_ALLOW_TARGETS`, which the processes that a run starts inherit.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlpost.errors import ConfigError

KEY = "allow_targets"
VARIABLE = "RLPOST_ALLOW_TARGETS"
OWN = "rlpost"
VARIABLES = "oc.env"  # allowed as `oc.env.NAME`: a variable of the environment that a configuration may read
SANDBOX = "sandbox"  # allowed as `sandbox.network`: a promise of the sandbox that a configuration may waive
MISPLACED = (
    f"{KEY} counts only where you type it yourself, on the command line or in {VARIABLE}: a recipe, a pipeline or a "
    "run folder cannot allow code to itself"
)
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_WAIVED = re.compile(r"(?:^|[.{,\s])allow\s*[=:]\s*\[?([^\]}]*)")
_READ = re.compile(r"\$\{\s*oc\.env\s*:\s*([^,}\s]+)")
# `reward.external.path=my.module.fn`, and `path: file.py:Class` inside a mapping that is typed.
_CODE = re.compile(r"(?:^|[.{,\s])path\s*[=:]\s*['\"]?([^\s'\",}\]]+)")


def allowed() -> tuple[str, ...]:
    """What counts besides rlpost: packages, modules, functions, and files of Python."""
    return tuple(part.strip() for part in os.environ.get(VARIABLE, "").split(",") if part.strip())


def typed(overrides: Sequence[str]) -> list[str]:
    """The overrides that a person gave, without `allow_targets=`, which takes effect here and in every child process.

    A function or file that a typed `path` names is allowed by being typed, a variable by a typed `${oc.env:NAME}`, a
    promise of the sandbox is waived by a typed `allow=[...]`. Raises ConfigError for what is no package.
    """
    kept, found = [], list[str]()
    for text in overrides:
        key, _, value = text.lstrip("+").partition("=")
        if key == KEY:
            found += _names(value)
            continue
        kept.append(text)
        found += [f"{VARIABLES}.{name}" for name in _READ.findall(value)]
        if key.startswith(("reward", "rollout")):
            found += _CODE.findall(text)
            found += [f"{SANDBOX}.{word}" for words in _WAIVED.findall(text) for word in re.findall(r"\w+", words)]
    if found:
        os.environ[VARIABLE] = ",".join(dict.fromkeys([*allowed(), *(place for place in found if "," not in place)]))
    return kept


def _names(value: str) -> list[str]:
    names = [part.strip().strip("'\"") for part in value.strip().strip("'\"").strip("[]").split(",")]
    for name in names:
        if not _NAME.fullmatch(name) and ".py" not in name:
            raise ConfigError(
                f"{KEY}={value}: {name!r} is no package, module or Python file; write {KEY}=[my_package,rewards.py]"
            )
    return names


def permits(target: str) -> bool:
    """Whether a dotted path, or `file.py:name`, may be imported and called."""
    return any(_covers(prefix, target) for prefix in (OWN, *allowed()))


def _covers(prefix: str, target: str) -> bool:
    if target == prefix or target.startswith((f"{prefix}.", f"{prefix}:")):
        return not (prefix == OWN and ".py:" in target)
    place, colon, _ = target.rpartition(":")
    if not colon or ".py" not in prefix:
        return False
    file = prefix.rpartition(":")[0] or prefix
    return ":" not in prefix and _real(place) == _real(file)


def _real(place: str) -> str:
    return os.path.realpath(Path(place).expanduser())


def refusal(target: str, key: str) -> str:
    """The sentence for code that is not allowed, with what to type."""
    top = target.rpartition(":")[0] or target.partition(".")[0]
    return (
        f"{key}={target} names code outside of rlpost, which is not imported before you allow it: add "
        f"{KEY}=[{top}] to the command line, or set {VARIABLE}={top}"
    )


def require(target: str, key: str = "_target_") -> None:
    """Raises ConfigError where `target` may not be imported."""
    if not permits(target):
        raise ConfigError(refusal(target, key))
    if key.endswith("_target_") and f".{target}".find("._") >= 0 and target.startswith(f"{OWN}."):
        raise ConfigError(f"{key}={target} names a private part of rlpost; name a function that a recipe may use")


def require_home(made: Any, target: str) -> None:
    """Raises ConfigError where an allowed module only passes on what another, not allowed, defines."""
    home = getattr(made, "__module__", None)
    name = target.rpartition(".")[2]
    if not isinstance(home, str) or not (permits(home) or permits(f"{home}.{name}")):
        where = f"is defined in {home}" if isinstance(home, str) else "is no function or class"
        top = str(home).partition(".")[0]
        remedy = f": name it where it is defined, and add {KEY}=[{top}]" if isinstance(home, str) else ""
        raise ConfigError(f"_target_={target} {where}, which is not allowed{remedy}")


def variable(name: str, *default: Any) -> Any:
    """The resolver of `${oc.env:NAME}`: a file may not read the environment, whose secrets it could send away."""
    if f"{VARIABLES}.{name}" not in allowed():
        raise ConfigError(
            f"${{oc.env:{name}}} reads your environment, which a file may not: type it on the command line, "
            f"KEY='${{oc.env:{name}}}', or add {KEY}=[{VARIABLES}.{name}]"
        )
    if name not in os.environ and not default:
        raise ConfigError(f"the environment variable {name} is not set")
    return os.environ.get(name, default[0] if default else None)


def targets(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every `_target_` of a tree with its dotted path, wherever it stands."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            if key == "_target_" and isinstance(value, str):
                yield f"{path}._target_".lstrip("."), value
            else:
                yield from targets(value, f"{path}.{key}".lstrip("."))
    elif isinstance(tree, list | tuple):
        for place, value in enumerate(tree):
            yield from targets(value, f"{path}[{place}]")


def again() -> str:
    """What a command that continues a run must repeat, since a run folder allows nothing: empty, or a key."""
    return f" '{KEY}=[{','.join(allowed())}]'" if allowed() else ""
