"""The plan of a pipeline: each training stage as a run of its own, stages that differ only in their cell once."""

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from rlpost import config, pipeline
from rlpost.errors import ConfigError
from rlpost.execute import resumed
from rlpost.plan.findings import CannotRun, Findings
from rlpost.stages import REFERENCE, TRAINING, Stage, plan

if TYPE_CHECKING:
    from rlpost.plan.command import Options


def plan_stages(overrides: list[str], options: "Options") -> None:
    """Print the plan of every training stage. Raises CannotRun with the faults of all of them.

    A stage that runs in several cells (seeds, arms) is planned in its first; its start from an earlier stage's weights
    is left out, since they are not there yet. Numbers from earlier stages count as 1, as in the pipeline's own check.
    """
    from rlpost.plan.command import planned, tell

    cfg = config.compose("run", resumed("run", overrides))
    try:
        config.check(cfg)
    except ConfigError as error:
        found = Findings("run")
        found.fault(error)
        tell(found, options)
    stages = plan(cfg.tree.get("pipeline") or {}, pipeline.common(cfg))
    faults: list[tuple[int, str]] = []
    plans = []
    for stage, times in representatives(stages):
        found = planned(stage.verb, overrides_of(stage), replace(options, probe=False))
        found.facts = {"stage": stage.name, "times": times, **found.facts}
        faults += [(code, f"stage {stage.name}: {sentence}") for code, sentence in found.faults]
        plans.append(found)
        if not options.as_json:
            print(f"\nstage {stage.name} (rlpost {stage.verb}{f', {times} times' if times > 1 else ''})")
            tell(Findings(found.command, found.facts, found.warnings), options)
    if options.as_json:
        whole = Findings("run", {"stages": [found.plain() for found in plans]}, faults=faults)
        tell(whole, options)
    if options.probe:
        print("--probe measures one run, so a pipeline has none: probe a stage with rlpost plan <command> --probe")
    if faults:
        raise CannotRun(faults)


def representatives(stages: list[Stage]) -> list[tuple[Stage, int]]:
    """The first training stage of each name, with how often that name runs."""
    training = [stage for stage in stages if stage.verb in TRAINING]
    times = Counter(stage.name for stage in training)
    first = {stage.name: stage for stage in reversed(training)}
    return [(stage, times[stage.name]) for stage in training if first[stage.name] is stage]


def overrides_of(stage: Stage) -> list[str]:
    """The stage's overrides as its own command would get them."""
    return pipeline.debugged(stage.verb, [REFERENCE.sub("1.0", text) for text in stage.overrides])
