"""What a plan looks at behind a configuration without faults: data, encoder, rewards, shapes, and on demand real steps.

Each part notes its own faults, so that one that fails does not hide the others.
"""

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlpost import assemble
from rlpost.batches import MAX_BAD, demonstrated, paired
from rlpost.config import Config
from rlpost.errors import ConfigError, DataError, OutOfMemory, RlpostError
from rlpost.execute import trainer_of
from rlpost.models.encode import Bundle
from rlpost.nodes import build
from rlpost.plan import batch, budget, load, models, rewards, second, tokens
from rlpost.plan.device import at_hand
from rlpost.plan.findings import Findings
from rlpost.plan.skeleton import as_trained, skeleton
from rlpost.trainers.arguments import epochs_to_steps
from rlpost.trainers.parts import Parts
from rlpost.types import Task

if TYPE_CHECKING:
    from rlpost.plan.command import Options

# Tasks that rewards are tried on; each is scored for every way to write its answer.
TRIED = 32


def look(cfg: Config, options: "Options", found: Findings) -> None:
    """Fill the findings; what the run would raise becomes a fault."""
    tree, command = cfg.tree, cfg.command
    needs = models.needed(command, tree)
    found.facts["models"] = [{**need.plain(), "where": models.place(need)} for need in needs]
    tasks = _tasks(cfg, found)
    bundle = None
    with _noting(found):
        bundle = skeleton(tree["model"])
    _batch(cfg, tasks, found)
    _plugins(cfg, tasks, found)
    if bundle is None:
        return
    lengths = _tokens(cfg, tasks, bundle, options.samples, found)
    _rewards(cfg, tasks, bundle, options.samples, found)
    if lengths is None or not lengths.found:
        return
    _memory(cfg, tasks, bundle, lengths, needs, options, found)
    if options.probe:
        _probe(cfg, lengths, found)


@contextlib.contextmanager
def _noting(found: Findings) -> Iterator[None]:
    try:
        yield
    except RlpostError as error:
        found.fault(error)


def _tasks(cfg: Config, found: Findings) -> Sequence[Task]:
    """The tasks that would train; the held-out split is read too, as the run does before its first step."""
    tree, tasks = cfg.tree, []
    usable = {"sft": demonstrated, "dpo": paired, "reward": paired}.get(cfg.command, lambda tasks: tasks)
    with _noting(found):
        tasks = usable(build(tree["dataset"])("train"))
        if not tasks:
            raise DataError("the dataset has no task to train on; look at its path, split and filters")
    node = tree.get("evaluation") or {}
    with _noting(found):
        if tasks and int(node.get("tasks", 0)) and not build(tree["dataset"])(node.get("split", "test")):
            found.warn(f"the split {node.get('split', 'test')} has no task, so nothing is measured on held-out tasks")
    return tasks


def _batch(cfg: Config, tasks: Sequence[Task], found: Findings) -> None:
    if cfg.command == "grpo" and (sentence := batch.generation_fault(cfg.tree)):
        found.fault(ConfigError(sentence))
        return
    steps = steps_of(cfg, len(tasks))
    found.facts["batch"] = {"arithmetic": batch.arithmetic(cfg.command, cfg.tree, len(tasks), steps)}


def steps_of(cfg: Config, tasks: int) -> int:
    """Optimizer steps of the run, by the trainers' own rule."""
    n = batch.numbers(cfg.tree)
    per_step = n["rows"] * n["accumulation"] * n["ranks"]
    if cfg.command == "grpo":
        per_step = max(1, per_step // int(cfg.tree["rollout"]["num_generations"]))
    return epochs_to_steps(cfg, tasks, per_step)


def _plugins(cfg: Config, tasks: Sequence[Task], found: Findings) -> None:
    """Build what the run would build: packages that are missing and knobs that are refused show themselves."""
    tree = cfg.tree
    with _noting(found):
        if cfg.command == "grpo" and tasks:
            Parts(cfg, tasks)
        elif cfg.command == "sft":
            assemble.method(tree, objective="sft_loss")
        elif cfg.command in ("dpo", "reward"):
            build(tree["preference" if cfg.command == "dpo" else "reward_model"])
    engine = (tree.get("rollout") or {}).get("engine")
    if cfg.command == "grpo" and engine == "vllm" and importlib.util.find_spec("vllm") is None:
        found.fault(ConfigError("rollout.engine=vllm needs the package vllm; pip install 'rlpost[vllm]'"))


def _tokens(cfg: Config, tasks: Sequence[Task], bundle: Bundle, samples: int, found: Findings) -> tokens.Lengths | None:
    lengths = None
    with _noting(found):
        places = tokens.sampled(tasks, samples, int(cfg.tree.get("seed") or 0))
        lengths = tokens.measure(cfg.command, tasks, bundle.encoder, places)
        context = getattr(bundle.model.config.get_text_config(), "max_position_embeddings", None)
        facts = tokens.facts(cfg.command, cfg.tree, lengths, context)
        found.facts["tokens"] = facts
        for sentence in tokens.warnings(cfg.command, facts):
            found.warn(sentence)
        max_bad = float((cfg.tree.get("dataset") or {}).get("max_bad", MAX_BAD))
        for sentence in tokens.faults(cfg.command, facts, max_bad):
            found.fault(DataError(sentence))
    return lengths


def _rewards(cfg: Config, tasks: Sequence[Task], bundle: Bundle, samples: int, found: Findings) -> None:
    tree = cfg.tree
    if "reward" not in tree:
        found.facts.setdefault("does not apply", []).append(f"rewards: `rlpost {cfg.command}` has none")
        return
    with _noting(found):
        stack = assemble.reward_stack(tree)
        places = tokens.sampled(tasks, min(samples, TRIED), int(tree.get("seed") or 0))
        told = rewards.tried(stack, tree["reward"], [tasks[place] for place in places], bundle.encoder)
        found.facts["rewards"] = [one.plain() for one in told]
        for one in told:
            if one.error is not None:
                found.fault(one.error)
        for sentence in rewards.warnings(told):
            found.warn(sentence)


def _memory(
    cfg: Config,
    tasks: Sequence[Task],
    bundle: Bundle,
    lengths: tokens.Lengths,
    needs: Sequence[models.Need],
    options: "Options",
    found: Findings,
) -> None:
    tree, command = cfg.tree, cfg.command
    with _noting(found):
        model = as_trained(bundle, command, tree)
        extra, unknown = second.sizes(needs, model, tree)
        for sentence in unknown:
            found.warn(sentence)
        if command == "grpo":
            drawn = _drawn(cfg, [tasks[i] for i in lengths.longest(load.tasks_per_generation(tree))], bundle, found)
            told = load.of_grpo(model, tree, lengths, drawn)
        else:
            told = load.of_rows(command, model, tree, lengths)
            found.facts.setdefault("does not apply", []).append("cache: nothing is generated while training")
        trainer_of(command)  # what the run imports is part of what it holds
        facts = budget.table(model, tree, told, extra, at_hand(options.memory_gib))
        found.facts["memory"] = {**facts, "load": vars(told), "second models": extra}
        try:
            if sentence := budget.verdict(facts):
                found.warn(sentence)
        except OutOfMemory as error:
            found.fault(error)


def _drawn(cfg: Config, tasks: Sequence[Task], bundle: Bundle, found: Findings) -> load.Drawn | None:
    """A dry run of the rollout; where made-up completions break it, the plain one is counted and the plan says so."""
    try:
        drawn = load.dry_run(cfg.tree, tasks, bundle.encoder, assemble.sampling(cfg.tree["rollout"]))
    except Exception as error:  # any option's function may need what only a model writes
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        found.warn(f"the rollout cannot be tried without a model ({first}); memory counts a plain one")
        return None
    return drawn if drawn.group_rows else None


def _probe(cfg: Config, lengths: tokens.Lengths, found: Findings) -> None:
    from rlpost.plan.probe import probe

    if found.faults:
        found.warn("no probe: the faults below come first")
        return
    with _noting(found):
        tasks = lengths.tasks
        wanted = max(1, min(tasks, _per_step(cfg)))
        told = probe(cfg, lengths.longest(wanted), steps_of(cfg, tasks))
        memory: Mapping[str, Any] = found.facts["memory"]
        found.facts["time"] = {**told, "estimated peak": memory["peak"]}


def _per_step(cfg: Config) -> int:
    """Tasks of an optimizer step, so that each step of the probe sees all of the longest."""
    facts = batch.arithmetic(cfg.command, cfg.tree, 1, 1)
    return int(facts["groups per generation"] if cfg.command == "grpo" else facts["rows per step"])
