"""`rlpost eval`: accuracy of a model on held-out tasks with bootstrap intervals over tasks, as a table and as JSON."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from transformers import set_seed

from rlpost import assemble, ledger
from rlpost.config import Config, build
from rlpost.errors import ConfigError, DataError, GateError, RewardError
from rlpost.evaluation import answer
from rlpost.models.encode import Bundle
from rlpost.models.roles import start_from
from rlpost.rollout.evaluated import in_evaluation
from rlpost.run import evaluations, files
from rlpost.run.folder import RunFolder
from rlpost.run.progress import progress
from rlpost.run.tables import Interval, interval, table
from rlpost.stack import RewardStack
from rlpost.trainers import records
from rlpost.trainers.arguments import world_size
from rlpost.types import Rollout, Task
from rlpost.usable import max_bad
from rlpost.words import near

Metric = Callable[[Sequence[Rollout]], Mapping[str, float]]


@dataclass(frozen=True)
class Measured:
    """A metric over all tasks, and its value on each task (None where it does not apply there)."""

    value: float
    per_task: dict[str, float | None]

    def interval(self, tasks: Sequence[str] | None = None) -> Interval:
        """The mean over these tasks (all by default) with its 95% bootstrap interval.

        Edge cases: a metric that is no mean over tasks, such as a corpus score, has its value and no bounds.
        """
        found = interval([self.per_task[task] for task in tasks or self.per_task])
        if tasks is None and not math.isclose(found.mean, self.value, rel_tol=1e-9, abs_tol=1e-9):
            return Interval(self.value, math.nan, math.nan, found.n)
        return found


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Sample, score and measure. Writes `eval.json` and `rollouts.jsonl`; raises GateError where `gate` is not met."""
    begin = time.monotonic()
    bundle, tasks, stack = prepare(cfg)
    metrics = {name: build(node) for name, node in (cfg.tree.get("metric") or {}).items()}
    collect = in_evaluation(build(cfg.tree["rollout"]))
    rollouts = completions(cfg, bundle, tasks, stack, "Evaluate", collect)
    asked = {rollout.task.id for rollout in rollouts}
    tasks = [task for task in tasks if task.id in asked]
    found = measure(rollouts, metrics)
    if not found:
        raise ConfigError("there is no metric: pick at least one, such as metric=[pass_at_k]")
    shown = {name: one.interval() for name, one in found.items()}
    result = {
        "metrics": shown,
        "by_tag": by_tag(found, tasks),
        "reward": reward_means(rollouts, stack),
        "tasks": len(tasks),
        "num_generations": int(cfg.tree["rollout"]["num_generations"]),
        "model": bundle.source,
        "split": cfg.tree["trainer"]["split"],
        "seed": cfg.tree["seed"],
        "objective": next(iter(shown.values())).mean,
    }
    if folder.writes:
        folder.rollouts(records.scored_records(rollouts, stack))
        how = evaluations.sampled(assemble.sampling(cfg.tree["rollout"]), result["num_generations"])
        evaluations.save(folder, rollouts, "eval", **counted(cfg.tree["metric"]), **how)
        per_task = [{"task": t.id, "tags": list(t.tags), **_of(found, t.id)} for t in tasks]
        files.write_json(folder.path / "eval.json", files.plain({**_named(result), "per_task": per_task}), folder.safe)
        _show(result, len(tasks))
    check_gate(cfg.tree.get("gate") or {}, shown)
    rows = {f"{name}, 95% interval": bounds for name, bounds in shown.items()}
    return {**_named(result), "table": rows, "minutes": (time.monotonic() - begin) / 60}


def prepare(cfg: Config) -> tuple[Bundle, list[Task], RewardStack]:
    """The model on the device it samples on, the tasks of the split, and the rewards."""
    if world_size() > 1:
        raise ConfigError("eval and sample run in one process; leave launch=local and start them without torchrun")
    set_seed(cfg.tree["seed"])
    node = cfg.tree["trainer"]
    tasks = list(build(cfg.tree["dataset"])(node["split"]))
    tasks = tasks if node["limit"] is None else _round(tasks, int(node["limit"]), int(node.get("round") or 0))
    if not tasks:
        raise DataError(f"the split {node['split']!r} of the dataset has no task; change trainer.split")
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    if torch.cuda.is_available():
        bundle.model = bundle.model.cuda()
    return bundle, tasks, assemble.reward_stack(cfg.tree)


def _round(tasks: Sequence[Task], limit: int, number: int) -> list[Task]:
    """`limit` tasks from `number * limit` on, over again at the end; never one twice."""
    return [tasks[(number * limit + i) % len(tasks)] for i in range(min(limit, len(tasks)))]


def completions(
    cfg: Config, bundle: Bundle, tasks: Sequence[Task], stack: RewardStack, title: str, collect: Any = None
) -> list[Rollout]:
    """The scored completions of all tasks, with progress."""
    node = cfg.tree["rollout"]
    with progress(len(tasks), title, ["tasks/s"]) as bar:
        start = time.monotonic()
        found = answer(
            bundle,
            tasks,
            stack,
            assemble.sampling(node),
            n=int(node["num_generations"]),
            seed=int(cfg.tree["seed"]),
            rows=int(cfg.tree["trainer"]["batch_size"]),
            done=lambda n: bar.update(n, {"tasks/s": n / (time.monotonic() - start)}),
            collect=collect,
            share=max_bad(cfg.tree),
        )
    ledger.current().judge(0, cfg.tree.get("ledger") or {})
    return found


def measure(rollouts: Sequence[Rollout], metrics: Mapping[str, Metric]) -> dict[str, Measured]:
    """Every value that the metrics report, over all tasks and on each task alone."""
    tasks: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        tasks.setdefault(rollout.task.id, []).append(rollout)
    found: dict[str, Measured] = {}
    for metric in metrics.values():
        whole = metric(rollouts)
        alone = {task: _alone(metric, rows, rollouts) for task, rows in tasks.items()}
        for name, value in whole.items():
            found[name] = Measured(value, {task: values.get(name) for task, values in alone.items()})
    return found


def by_tag(found: Mapping[str, Measured], tasks: Sequence[Task]) -> dict[str, dict[str, Interval]]:
    """The metrics on the tasks of each tag; tags that all tasks share say nothing and are left out."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        for tag in task.tags:
            groups.setdefault(tag, []).append(task.id)
    return {
        tag: {name: one.interval(ids) for name, one in found.items()}
        for tag, ids in groups.items()
        if len(ids) < len(tasks)
    }


def reward_means(rollouts: Sequence[Rollout], stack: RewardStack) -> dict[str, float]:
    """Mean raw score of each reward over the completions that it applies to."""
    raw = stack.table(rollouts)
    means = {}
    for k, name in enumerate(stack.names):
        there = raw[:, k][~torch.isnan(raw[:, k])]
        if len(there):
            means[name] = float(there.mean())
    return means


def counted(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The scores and the threshold that the metrics count; the first metric that has the knob says it."""
    score = next((node["score"] for node in metrics.values() if node.get("score") is not None), "correct")
    threshold = next((node["threshold"] for node in metrics.values() if node.get("threshold") is not None), 1.0)
    return {"scores": [score] if isinstance(score, str) else list(score), "threshold": float(threshold)}


def check_gate(gate: Mapping[str, Any], shown: Mapping[str, Interval]) -> None:
    """Raise GateError where a metric is below what the gate demands, ConfigError for a metric that was not measured."""
    unknown = [name for name in gate if name not in shown]
    if unknown:
        raise ConfigError(
            [f"gate names {n!r}, which was not measured{near(n, shown)}; there are {', '.join(shown)}" for n in unknown]
        )
    missed = [
        f"{name} is {shown[name].mean:.3f}, below {least}" for name, least in gate.items() if shown[name].mean < least
    ]
    if missed:
        raise GateError(f"the evaluation gate is not met: {'; '.join(missed)}")


def _alone(metric: Metric, rows: Sequence[Rollout], everything: Sequence[Rollout]) -> Mapping[str, float]:
    """The metric on the rows of one task. RewardError says that no score applies to them, which is no value."""
    try:
        return metric(rows)
    except RewardError:
        return {}


def _of(found: Mapping[str, Measured], task: str) -> dict[str, float | None]:
    return {name: one.per_task[task] for name, one in found.items()}


def _named(result: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as mappings, so that JSON says which number is which."""

    def plain(value: Any) -> Any:
        if isinstance(value, Interval):
            return value._asdict()
        return {k: plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    return plain(result)


def _show(result: Mapping[str, Any], tasks: int) -> None:
    """The metrics over all tasks, then the first of them on the tasks of each tag; narrow enough for a log file."""
    console = Console()
    shown = [[name, bounds] for name, bounds in result["metrics"].items()]
    console.print(table(f"Evaluation of {tasks} tasks", ["metric", "mean, 95% interval"], shown))
    first = next(iter(result["metrics"]))
    tags = [[tag, values[first].n, values[first]] for tag, values in result["by_tag"].items()]
    if tags:
        console.print(table(f"{first} by tag", ["tag", "tasks", "mean, 95% interval"], tags))
