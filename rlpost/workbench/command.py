"""`rlpost reward-test`: score texts with a reward stack, hold it against a second one, scan it for hacks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlpost import config
from rlpost.config import Config
from rlpost.errors import ConfigError, GateError, RewardError
from rlpost.execute import resumed

if TYPE_CHECKING:
    from rlpost.workbench.look import Test

VERBS = ("grpo", "eval", "sample")
RECORDED = "recorded"


@dataclass(frozen=True)
class Options:
    """What the command line asks besides the configuration."""

    run: Path | None = None
    rows: Path | None = None
    against: Sequence[str] = ()
    samples: int = 16
    limit: int | None = None
    tolerance: float = 0.1
    worst: int = 5
    out: Path | None = None
    as_json: bool = False
    fail_on_hack: bool = True


@dataclass(frozen=True)
class Setting:
    """The checked configurations: `first`, and `second` where there is something to hold it against.

    `recorded`: the second stack is not asked; its scores are those that the run wrote down.
    """

    first: Config
    second: Config | None = None
    recorded: bool = False
    names: tuple[str, str] = ("first", "")
    warnings: list[str] = field(default_factory=list)


def run(overrides: Sequence[str], options: Options) -> None:
    """Test the stack, print it and write what was asked for.

    Raises ConfigError with every fault before torch is imported, RewardError where a reward raised and GateError where
    the scan found a hole: both after everything was shown.
    """
    setting = settings(list(overrides), options)
    from rlpost.workbench import show
    from rlpost.workbench.look import look

    found = look(setting, options)
    if options.out is not None:
        from rlpost.workbench import page

        page.write(found, options.out)
    show.tell(found, options)
    verdict(found, options)


def verdict(found: "Test", options: Options) -> None:
    """Raise what the exit code is to say."""
    for side in found.sides:
        for name, asked in side.scores.asked.items():
            for cause in sorted(asked.errors):
                raise RewardError(f"reward '{name}' would stop a run: {asked.places[cause]}")
        if len(side.scores.total) and all(map(math.isnan, side.scores.total)):
            raise RewardError(
                f"none of {len(side.scores.total)} completions got a score ({side.name} stack): no reward applies to "
                "them, so nothing was tested; see the rewards' `when` and the columns of the rows"
            )
    if found.findings and options.fail_on_hack:
        count = len(found.findings)
        raise GateError(
            f"the scan found {count} hole{'s' * (count > 1)} in this reward stack, listed above; mend it, or pass "
            "--no-fail-on-hack to look only"
        )


def settings(given: list[str], options: Options) -> Setting:
    """Both configurations, checked; all faults of both at once."""
    faults = _usage(options)
    if faults:
        raise ConfigError(faults)
    verb, old = ("grpo", []) if options.run is None else _of_run(options.run)
    first = config.compose(verb, [*old, *given])
    second, names = None, ("first", "")
    if options.against:
        second = config.compose(verb, [*old, *given, *options.against])
        names = ("first", "second")
    elif options.run is not None:
        second = config.compose(verb, old)
        names = ("now", RECORDED)
    for cfg in (first, second):
        if cfg is not None:
            faults += [fault for fault in _faults(cfg) if fault not in faults]
    if faults:
        raise ConfigError(faults)
    return Setting(first, second, second is not None and not options.against, names, list(first.warnings))


def _usage(options: Options) -> list[str]:
    found = []
    if options.run is not None and options.rows is not None:
        found.append("--run and --rows are two sources of completions; name one")
    if options.limit is not None and options.run is None and options.rows is None:
        found.append("--limit counts groups of --run or --rows; for rows of the dataset it is --samples")
    for name, value, least in (
        ("samples", options.samples, 2),
        ("limit", options.limit, 1),
        ("worst", options.worst, 0),
    ):
        if value is not None and value < least:
            found.append(f"--{name} {value} must be {least} or more")
    if not 0 <= options.tolerance < 1:
        found.append(f"--tolerance {options.tolerance:g} is a share of what gold gets more than a wrong answer: 0 to 1")
    if options.out is not None and options.out.is_file():
        found.append(f"--out {options.out} is a file; name a folder")
    return found


def _of_run(run: Path) -> tuple[str, list[str]]:
    """The verb and the overrides of a run that sampled completions."""
    from rlpost.run import files

    if not run.is_dir():
        raise ConfigError(f"--run {run}: there is no such folder")
    verb = (files.read_json(run / "environment.json") or {}).get("verb") or "grpo"
    if verb not in VERBS:
        raise ConfigError(f"--run {run} is a run of `rlpost {verb}`, which scores no completions; there are {VERBS}")
    if not (run / "overrides.txt").is_file():
        raise ConfigError(f"--run {run} is no run folder: it has no overrides.txt")
    texts = resumed(verb, [f"resume='{run}'"])
    return verb, [text for text in texts if not text.startswith("resume=")]


def _faults(cfg: Config) -> list[str]:
    try:
        config.check(cfg)
    except ConfigError as error:
        return error.faults
    return []


def plain_overrides(cfg: Config) -> list[str]:
    """The overrides of a configuration, secrets hidden."""
    from rlpost.run import redact

    return [redact.text(text) for text in cfg.overrides]


def kept(tree: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration decides the scores."""
    from rlpost.run import redact

    return redact.tree({name: tree.get(name) for name in ("reward", "models") if tree.get(name)})
