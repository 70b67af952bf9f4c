"""What differs between runs: configuration with origins, code, environment and data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rlpost.compare.arms import PLACE
from rlpost.compare.runs import Run
from rlpost.origin import flatten

CODE = ("git", "versions", "python", "platform", "machine", "cpus", "threads", "devices", "ranks")
DATA = ("trained_on", "evaluated")
MISSING = "–"


class Row(NamedTuple):
    """A key, its value in each run, and where each came from ("" where that is not known)."""

    key: str
    values: list[str]
    origins: list[str]


def configuration(runs: Sequence[Run]) -> list[Row]:
    """The keys whose values are not the same in all runs; the place of a run is left out."""
    rows = _differing([run.config for run in runs])
    kept = [row for row in rows if not row[0].startswith(PLACE)]
    return [Row(key, values, [run.origin.get(key, "") for run in runs]) for key, values in kept]


def code(runs: Sequence[Run]) -> list[Row]:
    """What differs in commit, versions and machine."""
    return _facts(runs, CODE)


def data(runs: Sequence[Run]) -> list[Row]:
    """What differs in the fingerprints of what was trained and measured on, and in how it was measured."""
    return _facts(runs, DATA)


def notes(runs: Sequence[Run]) -> list[str]:
    """Sentences on what makes a difference of results hard to read, besides the configuration."""
    found = []
    git = [run.environment.get("git") or {} for run in runs]
    dirty = [run.name for run, state in zip(runs, git, strict=True) if state.get("dirty")]
    if dirty:
        found.append(f"{', '.join(dirty)} ran with changes that are in no commit: the code is not known exactly.")
    if len({state.get("commit") for state in git}) > 1:
        found.append("The runs are of different commits.")
    unknown = [run.name for run in runs if not run.evaluated.get("fingerprint") and not run.environment.get(DATA[0])]
    if unknown:
        found.append(f"The data of {', '.join(unknown)} has no fingerprint, so that it cannot be compared.")
    trained = {str(run.environment[DATA[0]]) for run in runs if run.environment.get(DATA[0])}
    if len(trained) > 1:
        found.append("The runs were trained on different data.")
    unfinished = [run.name for run in runs if not (run.path / "done.json").is_file()]
    if unfinished:
        found.append(f"{', '.join(unfinished)} has not ended.")
    return found


def _facts(runs: Sequence[Run], keys: Sequence[str]) -> list[Row]:
    trees = [flatten({key: run.environment.get(key) for key in keys if key in run.environment}) for run in runs]
    return [Row(key, values, [""] * len(runs)) for key, values in _differing(trees)]


def _differing(trees: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    keys = dict.fromkeys(key for tree in trees for key in tree)
    found = [(key, [_text(tree, key) for tree in trees]) for key in keys]
    return [(key, values) for key, values in found if len(set(values)) > 1]


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key)
    if value is None or value == {}:  # an axis without a pick is there as nothing, or not at all
        return MISSING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
