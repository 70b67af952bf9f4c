"""The first half of a GRPO step: pick tasks, collect rollouts, score them, and deal whole groups to micro-batches."""

import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from trl.models.utils import unwrap_model_for_generation

from rlpost import rows, signals, step
from rlpost.config import Config
from rlpost.errors import DataError, RewardError
from rlpost.fields import call, needed
from rlpost.likelihood import angle
from rlpost.models.encode import Encoder
from rlpost.models.roles import Reference
from rlpost.models.teacher import Teacher
from rlpost.refill import fill
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Sampling, sample
from rlpost.rollout.notes import Notes
from rlpost.run.folder import RunFolder
from rlpost.run.thumbnails import strip
from rlpost.trainers import records, replay
from rlpost.trainers.critic import Critic, explained_variance
from rlpost.trainers.parts import Parts
from rlpost.trainers.replay import Replay
from rlpost.trainers.seams import gathered
from rlpost.trainers.states import States
from rlpost.trainers.streams import Streams
from rlpost.types import Prompt, Rollout, Scored, Task
from rlpost.usable import Usable, context_of, max_bad, note_cut


class Collects:
    """Mixin of the GRPO trainer: `_collect` gives the micro-batches of a cycle of optimizer steps."""

    # What the trainer provides.
    args: Any
    model: Any
    model_wrapped: Any
    accelerator: Any
    folder: RunFolder
    encoder: Encoder
    tasks: Sequence[Task]
    parts: Parts
    cfg: Config
    rng: random.Random
    prompt_stats: Notes
    reference: Reference | None
    streams: Streams
    replay: Replay | None
    states: States
    teacher: Teacher | None
    critic: Critic | None
    vllm: Any
    steps_per_cycle: Any
    rows_seen: int
    phase: Callable[..., Any]
    record: Callable[..., None]
    before: int = 0  # optimizer steps of the runs that this one goes on from
    _logp: Callable[..., tuple[Tensor, Tensor]]

    def _collect(self, number: int) -> list[list[rows.MicroBatch]]:
        start = time.perf_counter()
        self.record(self.states.tell())
        stack = self.parts.stack.at(self.clock(number), self._progress(number))
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        mine, everyone = self._drawn(number, rank, ranks)
        self.prompt_stats.exchange(lambda written: gathered(written, self.accelerator))
        everything = [r for part in everyone for r in part]
        if not everything:
            raise DataError(f"no task of step {number} can be asked; see the causes in {self.folder.path}/ledger.json")
        self.rows_seen += len(everything)
        note_cut(mine, self.parts.sampling.max_tokens)
        table, credit = self._credit(number, mine, everything)
        pool = replay.pool(credit, everyone, rank, mine)
        if self.replay:
            pool, share = self.replay.mix(pool, number, self.rng)
            self.record({"replayed": share})
        dealt = rows.deal(pool.scored, pool.rank_of, ranks, self.steps_per_cycle, self.args.gradient_accumulation_steps)
        trained = rows.without(pool.scored, dealt, step.silent(pool.scored, self.parts.method))
        cycle = [
            [
                rows.MicroBatch(
                    [pool.rollouts[i] for i in part],
                    rows.narrow(pool.scored, part),
                    rows.step_counts(pool.scored, dealt, k, trained=trained),
                )
                for part in trained[rank][k]
            ]
            for k in range(self.steps_per_cycle)
        ]
        if self.steps_per_cycle * self.args.num_iterations > 1 and not self.replay:
            with self.phase("score"):
                for item in (item for micro in cycle for item in micro if item.rollouts):
                    item.logps["old_logp"], item.logps["old_entropy"] = self._logp(self.model, item)
        held_out = self.cfg.tree.get("evaluation") or {}
        metrics = records.step_metrics(everything, credit, stack, time.perf_counter() - start) | signals.shares(
            everything,
            credit,
            version=number,
            scores=held_out.get("scores", ()),
            threshold=float(held_out.get("threshold", 1.0)),
        )
        for name, measure in self.parts.metrics.items():
            metrics |= _measured(name, measure, everything)
        metrics |= explained_variance(credit.scored)
        if self.accelerator.is_main_process:
            self.record(metrics)
            pictures = self._pictures(mine)
            self.folder.rollouts(records.rollout_records(everything, credit, stack, number + 1, pictures))
        found = rows.outcomes(table, credit, everything, number)
        self.parts.curriculum.observe(found, metrics)
        stack.observe(everything)
        self.streams.observe(found, metrics)
        self.states.note(metrics)
        for one in self.parts.method.remembering.values():
            call(one.observe, credit.scored, {})
        return cycle

    def _drawn(self, number: int, rank: int, ranks: int) -> tuple[list[Rollout], list[list[Rollout]]]:
        """This rank's rollouts, and those of each rank without media; drawn again until enough groups stay."""
        per_step = self.parts.rows_per_micro_batch * self.args.gradient_accumulation_steps * ranks
        wanted = per_step * self.steps_per_cycle // self.parts.num_generations
        context = self._context(number)
        angles = "angle" in getattr(self.parts.curriculum, "outcome_fields", ())

        def draw(n: int) -> tuple[list[Rollout], list[list[Rollout]]]:
            n = max(n, min(ranks, wanted))  # every rank takes part in every round
            chosen = [self.tasks[i] for i in self.parts.curriculum.pick(n, self.rng)]
            chosen = self._asked(chosen, context)
            n = len(chosen)
            with self.phase("generate"):
                mine = self.parts.collect(chosen[rank * n // ranks : (rank + 1) * n // ranks], context)
            with self.phase("reward"):
                context.score(mine)
            if angles:
                with self.phase("score"):
                    angle.note(self.model, self.encoder, mine, self.parts.rows_per_micro_batch)
            return mine, gathered([rows.light(r) for r in mine], self.accelerator)

        def staying(draws: Sequence[Any]) -> int:
            mine, everyone = rows.joined(draws)
            credit = self._credit(number, mine, [r for part in everyone for r in part])[1]
            return len(credit.scored.group.unique())

        return rows.joined(fill(wanted, draw, staying, max_draws=self.parts.max_draws))

    @functools.cached_property
    def usable(self) -> Usable:
        """Which tasks can be asked; it lasts as long as the run."""
        model = self.accelerator.unwrap_model(self.model)
        return Usable(len(self.tasks), max_bad(self.cfg.tree), context=context_of(model))

    def _asked(self, chosen: Sequence[Task], context: Context) -> list[Task]:
        """The chosen tasks that can be asked, the same on every rank: each looks at its share, all hear of faults."""
        rank, ranks, n = self.accelerator.process_index, self.accelerator.num_processes, len(chosen)
        own = slice(rank * n // ranks, (rank + 1) * n // ranks)
        with self.phase("encode"):
            faults = [self.usable.fault(task, self.encoder, context.encoded) for task in chosen[own]]
        return self.usable.left(chosen, [one for part in gathered(faults, self.accelerator) for one in part], own)

    def _credit(
        self, number: int, mine: Sequence[Rollout], everything: Sequence[Rollout]
    ) -> tuple[Scored, step.Credit]:
        """The table of all rollouts and their credit."""
        table = rows.scored(everything, self.parts.stack.at(self.clock(number), self._progress(number)), version=number)
        with self.phase("score"):
            parts = gathered(self._before_credit(mine), self.accelerator)
        for name in parts[0]:
            fill = torch.nan if name == "value" else 0.0
            table = replace(table, **{name: rows.padded([row for part in parts for row in part[name]], fill)})
        return table, step.score(table, self.parts.method, step=self.clock(number), progress=self._progress(number))

    def clock(self, number: int) -> int:
        """The step that schedules see: optimizer steps of this run and of those that it goes on from."""
        return self.before + number

    def _progress(self, number: int) -> float:
        """The share of the run that is done at the start of an optimizer step."""
        return number / max(1, self.args.max_steps)

    def _context(self, number: int) -> Context:
        seed = self.args.seed * 1_000_003 + self.clock(number) * 1_009 + self.accelerator.process_index
        generator = torch.Generator(device=self.accelerator.device).manual_seed(seed % (1 << 63))

        def engine(prompts: Sequence[Prompt], n: int, how: Sampling) -> list[Any]:
            if self.vllm is not None:
                self.vllm.sync(number)
                return self.vllm(prompts, n, how)
            with unwrap_model_for_generation(self.model_wrapped, self.accelerator) as model:
                return sample(model, self.encoder, prompts, n, how, generator)

        return Context(
            engine=engine,
            encoder=self.encoder,
            stack=self.parts.stack.at(self.clock(number), self._progress(number)),
            sampling=self.parts.sampling,
            num_generations=self.parts.num_generations,
            rng=random.Random(seed),
            step=self.clock(number),
            progress=self._progress(number),
            version=number,
            prompts=self.prompt_stats,
            names=f"{number}.{self.accelerator.process_index}",
        )

    def _pictures(self, rollouts: Sequence[Rollout]) -> list[str]:
        """Small pictures of the first rollout's medium, for the report."""
        if not rollouts or not rollouts[0].task.media or self.encoder.media is None:
            return []
        return strip(self.encoder.media.clip(rollouts[0].task.media[0]).frames)

    def _before_credit(self, mine: Sequence[Rollout]) -> dict[str, list[list[float]]]:
        """What shaping, keep or the advantage read of policy, reference and critic, and a teacher's, per row."""
        wanted = needed(self.parts.method.scoring_plugins()) & {"old_logp", "old_entropy", "ref_logp", "value"}
        if self.replay:  # a stored row keeps what the policy said of it when it was written
            wanted |= {"old_logp", "old_entropy"}
        found: dict[str, list[list[float]]] = {name: [] for name in sorted(wanted)}
        teacher = self.teacher if "teacher_logp" in self.parts.reads else None
        asked = {"teacher_logp": teacher.logp(mine)} if teacher else {}
        size = self.parts.rows_per_micro_batch
        for chunk in (mine[i : i + size] for i in range(0, len(mine) if wanted else 0, size)):
            table = rows.scored(chunk, self.parts.stack)
            if self.critic:  # what it looks at may be more than what trains
                table = replace(table, mask=self.critic.looks_at(table))
            item = rows.MicroBatch(list(chunk), table, step.counts(table))
            values: dict[str, Tensor] = dict(
                zip(("old_logp", "old_entropy"), self._logp(self.model, item), strict=True)
            )
            if "ref_logp" in wanted and self.reference is not None:
                with self.reference.use() as model:
                    values["ref_logp"] = self._logp(model, item)[0]
            if self.critic:
                values["value"] = self.critic.values(item)
            for name in found:
                found[name] += [row[: len(r.tokens)].tolist() for row, r in zip(values[name], chunk, strict=True)]
        return found | asked


def _measured(name: str, measure: Callable[..., Any], rollouts: Sequence[Rollout]) -> dict[str, float]:
    """What a picked metric says of the step; where it does not apply to these rollouts, one sentence per run."""
    try:
        return {key: float(value) for key, value in measure(rollouts).items()}
    except RewardError as error:
        _tell_once(f"metric {name} is not measured: {error}")
        return {}


@functools.cache
def _tell_once(sentence: str) -> None:
    logging.getLogger("rlpost").warning(sentence)
