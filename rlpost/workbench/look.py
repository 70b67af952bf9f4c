"""What a test looks at behind configurations without faults: texts, both stacks on them, how they agree, holes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rlpost import assemble, ledger
from rlpost.config import Config
from rlpost.errors import DataError
from rlpost.nodes import build
from rlpost.plan.load import tasks_per_generation
from rlpost.plan.skeleton import skeleton
from rlpost.plan.tokens import sampled
from rlpost.stack import RewardStack
from rlpost.types import Task
from rlpost.workbench import hacks, probes, ranks, scoring, texts
from rlpost.workbench.hacks import Finding
from rlpost.workbench.ranks import Agreement, Histogram
from rlpost.workbench.scoring import Scores
from rlpost.workbench.texts import Batch, Marker, Text

if TYPE_CHECKING:
    from rlpost.workbench.command import Options, Setting

NOT_ALIKE = 1e-6


@dataclass(frozen=True)
class Side:
    """One stack: its name, its configuration and what it said."""

    name: str
    cfg: Config
    scores: Scores


@dataclass(frozen=True)
class Same:
    """A reward that both stacks have: rows that both score, those that get the same from both, and the largest gap."""

    reward: str
    rows: int
    equal: int
    gap: float


@dataclass
class Test:
    """Everything that is shown. `source` says in a sentence what was scored; `notes` what to know when reading it."""

    source: str
    texts: list[Text]
    sides: list[Side]
    agreement: Agreement | None = None
    same: list[Same] = field(default_factory=list)
    values: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    form: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def judged(self) -> bool:
        """Whether gold has a score, so that probes could be held against it."""
        return any("gold" in probes and not np.isnan(probes["gold"]).all() for probes in self.values.values())

    @property
    def groups(self) -> list[str]:
        """The group of each text."""
        return [text.group for text in self.texts]

    def histograms(self, side: Side) -> dict[str, Histogram]:
        """Of every column of a stack; a column that the other stack has too shares its bins."""
        others = {name: values for one in self.sides if one is not side for name, values in policy(self, one).items()}
        return {
            name: ranks.histogram(values, others.get(name))
            for name, values in policy(self, side).items()
            if len(values)
        }


def policy(test: Test, side: Side) -> dict[str, np.ndarray]:
    """The columns of a stack, and the total where it is not the only one, on the rows of the policy.

    Rows that only inform (a contrast arm) are left out.
    """
    own = np.array([text.role == "policy" for text in test.texts])
    own = own if own.any() else ~own
    found = {name: side.scores.table[own, k] for k, name in enumerate(side.scores.names)}
    alone = len(found) == 1 and side.scores.weights == (1.0,)
    return found if alone else {**found, "total": side.scores.total[own]}


def look(setting: "Setting", options: "Options") -> Test:
    """Score the texts with the first stack, and with the second where there is one."""
    cfg, notes = setting.first, list(setting.warnings)
    stack = assemble.reward_stack(cfg.tree)
    encoder = skeleton(cfg.tree["model"]).encoder
    sampling = assemble.sampling(cfg.tree["rollout"])
    marker = Marker(cfg.tree["rollout"], encoder, sampling)
    if options.run or options.rows:
        batches, source = _given(cfg, options)
        form = ""
    else:
        batches, source, form = _made(cfg, options, stack, marker)
    every = [text for batch in batches for text in batch.texts]
    first = scoring.score(stack, batches, marker, seed=int(cfg.tree.get("seed") or 0))
    found = Test(source, every, [Side(setting.names[0], cfg, first)], form=form, notes=notes)
    if setting.second is not None:
        _second(found, setting, stack, batches, marker)
    if form:
        columns = first.columns()
        found.values = hacks.by_probe(columns, found.groups, [text.probe for text in every])
        found.findings = hacks.findings(found.values, options.tolerance)
    _note(found, cfg, marker)
    return found


def _given(cfg: Config, options: "Options") -> tuple[list[Batch], str]:
    groups = _groups_per_call(cfg)
    if options.run:
        steps = int((cfg.tree.get("trainer") or {}).get("max_steps") or 0)
        batches = texts.of_run(options.run, options.limit, groups, steps)
        where = f"the completions of {options.run}"
    else:
        batches = texts.of_file(options.rows, options.limit, groups) if options.rows else []
        where = f"the completions in {options.rows}"
    count = sum(len(batch.texts) for batch in batches)
    named = {text.group for batch in batches for text in batch.texts}
    return batches, f"{where}: {count} in {len(named)} groups"


def _made(cfg: Config, options: "Options", stack: RewardStack, marker: Marker) -> tuple[list[Batch], str, str]:
    """Probes of rows of the dataset, gold written as this stack likes it best, and that form."""
    tasks = _tasks(cfg)
    tasks = [tasks[i] for i in sampled(tasks, options.samples, int(cfg.tree.get("seed") or 0))]
    forms = probes.forms_of(tasks)
    means: dict[str, float] = {}
    if forms:
        batches = texts.dealt(forms, _groups_per_call(cfg))
        said = scoring.score(stack, batches, marker, observe=False)
        total = np.nan_to_num(said.total, nan=0.0)
        for form in dict.fromkeys(text.probe for text in forms):
            means[form] = float(np.mean([v for v, text in zip(total, forms, strict=True) if text.probe == form]))
    order = probes.ranked(means)
    made = probes.made(tasks, order)
    source = f"probes of {len(tasks)} rows of the dataset: {len(made)} texts"
    return texts.dealt(made, _groups_per_call(cfg)), source, order[0] if order else "not known"


def _tasks(cfg: Config) -> Sequence[Task]:
    split = (cfg.tree.get("trainer") or {}).get("split") or "train"
    tasks = build(cfg.tree["dataset"])(split)
    if not tasks:
        raise DataError("the dataset has no task to make probes of; look at its path, split and filters")
    return tasks


def _groups_per_call(cfg: Config) -> int:
    """Groups that a step of the run scores at once."""
    trainer = cfg.tree.get("trainer") or {}
    if cfg.command == "grpo":
        return tasks_per_generation(cfg.tree)
    return max(1, int(trainer.get("batch_size") or 64) // int(cfg.tree["rollout"]["num_generations"]))


def _second(found: Test, setting: "Setting", stack: RewardStack, batches: Sequence[Batch], marker: Marker) -> None:
    cfg, first = setting.second, found.sides[0].scores
    if cfg is None:
        return
    other = assemble.reward_stack(cfg.tree)
    if setting.recorded:
        second = scoring.recorded(other, batches, marker)
    else:
        trees = (setting.first.tree, cfg.tree)
        if (trees[0].get("models") or {}) == (trees[1].get("models") or {}):
            other = RewardStack(other.rewards, stack.models)  # one copy of a second model is enough
        known = dict.fromkeys(scoring.shared(stack, other, trees), first)
        second = scoring.score(other, batches, marker, seed=int(cfg.tree.get("seed") or 0), known=known)
    found.sides.append(Side(setting.names[1], cfg, second))
    own = [text.role == "policy" for text in found.texts]
    rows = [i for i, mine in enumerate(own) if mine]
    agreed = ranks.agreement([found.groups[i] for i in rows], first.total[rows], second.total[rows])
    agreed.flips = [ranks.Flip(f.group, rows[f.up], rows[f.down], f.size) for f in agreed.flips]
    found.agreement, found.same = agreed, _same(first, second)


def _same(first: Scores, second: Scores) -> list[Same]:
    found = []
    for name in first.names:
        if name in second.names:
            a, b = first.table[:, first.names.index(name)], second.table[:, second.names.index(name)]
            there = ~(np.isnan(a) | np.isnan(b))
            gaps = np.abs(a[there] - b[there])
            gap = float(gaps.max()) if len(gaps) else 0.0
            found.append(Same(name, int(there.sum()), int((gaps <= NOT_ALIKE).sum()), gap))
    return found


def _note(found: Test, cfg: Config, marker: Marker) -> None:
    """What a reader must know."""
    shaping = list(cfg.tree.get("shaping") or {})
    if shaping:
        found.notes.append(f"shaping ({', '.join(shaping)}) acts on scores behind the stack and is not applied here")
    if marker.failed and any(side.scores.spans for side in found.sides):
        found.notes.append(
            f"the rollout cannot mark spans in given texts ({marker.failed}): a reward of spans saw each text as one"
        )
    if found.form == "not known":
        found.notes.append(
            "no sampled row has a known answer, so nothing is held against gold: only tricks are held against the same "
            "text without them"
        )
    for side in found.sides:
        if any(str(node.get("_target_")).endswith(".StandIn") for node in (side.cfg.tree.get("models") or {}).values()):
            whose = f"{side.name}: " if len(found.sides) > 1 else ""
            found.notes.append(f"{whose}a second model is played by the stand-in, so its scores mean nothing")
    lines = ledger.current().table()
    if lines:
        found.notes.append(f"not everything could be used:\n{lines}")
