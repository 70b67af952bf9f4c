"""The command: check the configuration first, without torch; then data, encoder, rewards and shapes; then the probe."""

import json
from dataclasses import dataclass

from rich.console import Console

from rlpost import config
from rlpost.checks import places
from rlpost.errors import ConfigError
from rlpost.execute import resumed
from rlpost.plan import batch, show
from rlpost.plan.findings import Findings

COMMANDS = ("grpo", "sft", "dpo", "reward", "run")


@dataclass(frozen=True)
class Options:
    """What the command line asks of a plan besides the configuration."""

    probe: bool = False
    as_json: bool = False
    everything: bool = False
    samples: int = 64
    memory_gib: float | None = None


def plan(command: str, overrides: list[str], options: Options) -> None:
    """Print the plan of a run, or of each training stage of a pipeline. Raises CannotRun with every fault found."""
    if command not in COMMANDS:
        there = ", ".join(COMMANDS)
        raise ConfigError(
            f"`rlpost plan {command}`: a plan is for commands that train or run a pipeline; there are {there}"
        )
    if options.samples < 1:
        raise ConfigError(f"--samples {options.samples}: look at 1 task or more")
    if options.memory_gib is not None and not options.memory_gib > 0:
        raise ConfigError(f"--memory {options.memory_gib:g}: a GPU has more than 0 GiB")
    if command == "run":
        from rlpost.plan.stages import plan_stages

        plan_stages(overrides, options)
        return
    tell(planned(command, overrides, options), options)


def tell(found: Findings, options: Options) -> None:
    """Print the findings. Raises CannotRun where a fault is among them."""
    if options.as_json:
        print(json.dumps(found.plain(), indent=1, ensure_ascii=False, default=str))
    else:
        show.show(found, Console(), everything=options.everything)
    found.check()


def planned(command: str, overrides: list[str], options: Options) -> Findings:
    """Everything that is known of a run; nothing heavy is imported where its configuration has a fault."""
    found = Findings(command)
    cfg = config.compose(command, resumed(command, overrides))
    found.warnings += cfg.warnings
    if command == "grpo" and (near := batch.nearest(cfg.tree)):
        found.facts["batch"] = {"nearest": near}
    try:
        config.check(cfg)
    except ConfigError as error:
        found.fault(error)
        return found
    places.require(cfg.tree)
    from rlpost.plan.look import look

    found.facts["configuration"] = show.configuration(cfg.tree, cfg.origin, cfg.picks)
    look(cfg, options, found)
    return found
