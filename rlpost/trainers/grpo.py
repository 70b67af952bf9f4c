"""`rlpost grpo`: rollouts, credit and the token loss inside TRL's GRPO trainer, whose step is replaced whole."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from rlpost import rows, step
from rlpost.config import Config, build
from rlpost.errors import ConfigError
from rlpost.fields import needed
from rlpost.likelihood import angle
from rlpost.likelihood.scoring import Ask, Rows, against, teach
from rlpost.models.encode import Bundle
from rlpost.models.roles import Reference, start_from, with_adapter
from rlpost.refill import fill
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Sampling, sample
from rlpost.run import checkpoint
from rlpost.run.folder import RunFolder
from rlpost.run.progress import progress
from rlpost.run.thumbnails import strip
from rlpost.step import Summed
from rlpost.trainers import records, vllm
from rlpost.trainers.arguments import epochs_to_steps, newest_checkpoint, training_arguments, world_size
from rlpost.trainers.heldout import HeldOut
from rlpost.trainers.parts import Parts
from rlpost.trainers.seams import OwnStep, gathered
from rlpost.trainers.sharing import Sharing, is_sharded
from rlpost.types import Prompt, Rollout, Scored, Task, TokenBatch

SCORED_FIELDS = (
    "group", "gen_logp", "reward", "length", "role", "stop", "turn", "trajectory", "index", "age", "span", "source",
)  # fmt: skip


class Grpo(OwnStep, GRPOTrainer):
    """Picks tasks, collects rollouts, scores them and trains on whole groups of any size."""

    def __init__(self, bundle: Bundle, cfg: Config, args: GRPOConfig, tasks: Sequence[Task], parts: Parts):
        placeholder = Dataset.from_dict({"prompt": [""] * max(1, args.generation_batch_size or 1)})
        teach(bundle.model)
        unused: Any = [_unused]
        super().__init__(
            model=bundle.model,
            args=args,
            reward_funcs=unused,
            train_dataset=placeholder,
            processing_class=bundle.encoder.tokenizer,
        )
        self.encoder, self.tasks, self.parts, self.cfg = bundle.encoder, tasks, parts, cfg
        self.rng = random.Random(args.seed)
        self.reference = Reference(self.model) if parts.reads & {"ref_logp", "ref_divergence"} else None
        self.sharing = Sharing(
            bundle.model,
            bundle.encoder,
            cfg.tree.get("kernels"),
            parts.likelihood,
            temperature=parts.sampling.temperature or 1.0,
            banned=bundle.encoder.suppress,
            sharded=is_sharded(self.accelerator),
        )
        self.prompt_stats: dict[str, Any] = {}
        self.vllm = vllm.start(self, bundle.encoder, parts.sampling) if parts.engine == "vllm" else None
        self._cycle: list[list[rows.MicroBatch]] = []

    # --- the cycle: rollouts serve `steps` optimizer steps, `num_iterations` times ---------------------------------

    @property
    def steps_per_cycle(self) -> int:
        """Optimizer steps that one set of rollouts is cut into."""
        return max(1, self.args.steps_per_generation // self.args.gradient_accumulation_steps)

    def micro_batches(self, number: int) -> list[rows.MicroBatch]:
        """The micro-batches of an optimizer step; new rollouts at the start of a cycle."""
        place = number % (self.steps_per_cycle * self.args.num_iterations)
        if place == 0 or not self._cycle:
            self._cycle = self._collect(number)
        return self._cycle[place % self.steps_per_cycle]

    def _collect(self, number: int) -> list[list[rows.MicroBatch]]:
        start = time.perf_counter()
        stack = self.parts.stack.at(number, self._progress(number))
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        mine, everyone = self._drawn(number, rank, ranks)
        everything = [r for part in everyone for r in part]
        rank_of = [i for i, part in enumerate(everyone) for _ in part]
        table, credit = self._credit(number, mine, everything)
        kept = credit.keep.nonzero()[:, 0].tolist()
        dealt = rows.deal(
            credit.scored,
            [rank_of[i] for i in kept],
            ranks,
            self.steps_per_cycle,
            self.args.gradient_accumulation_steps,
        )
        trained = rows.without(credit.scored, dealt, step.silent(credit.scored, self.parts.method))
        first = sum(len(part) for part in everyone[:rank])
        cycle = [
            [
                rows.MicroBatch(
                    [mine[kept[i] - first] for i in part],
                    rows.narrow(credit.scored, part),
                    rows.step_counts(credit.scored, dealt, k, trained=trained),
                )
                for part in trained[rank][k]
            ]
            for k in range(self.steps_per_cycle)
        ]
        if self.steps_per_cycle * self.args.num_iterations > 1:
            with self.phase("score"):
                for item in (item for micro in cycle for item in micro if item.rollouts):
                    item.logps["old_logp"], item.logps["old_entropy"] = self._logp(self.model, item)
        metrics = records.step_metrics(everything, credit, stack, time.perf_counter() - start)
        if self.accelerator.is_main_process:
            self.record(metrics)
            pictures = self._pictures(mine)
            self.folder.rollouts(records.rollout_records(everything, credit, stack, number + 1, pictures))
        found = rows.outcomes(table, credit, everything, number)
        self.parts.curriculum.observe(found, metrics)
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

    def _credit(
        self, number: int, mine: Sequence[Rollout], everything: Sequence[Rollout]
    ) -> tuple[Scored, step.Credit]:
        """The table of all rollouts and their credit."""
        table = rows.scored(everything, self.parts.stack.at(number, self._progress(number)), version=number)
        with self.phase("score"):
            parts = gathered(self._before_credit(mine), self.accelerator)
        for name in parts[0]:
            table = replace(table, **{name: rows.padded([row for part in parts for row in part[name]], 0.0)})
        return table, step.score(table, self.parts.method, step=number, progress=self._progress(number))

    def _progress(self, number: int) -> float:
        """The share of the run that is done at the start of an optimizer step."""
        return number / max(1, self.args.max_steps)

    def _context(self, number: int) -> Context:
        seed = self.args.seed * 1_000_003 + number * 1_009 + self.accelerator.process_index
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
            stack=self.parts.stack.at(number, self._progress(number)),
            sampling=self.parts.sampling,
            num_generations=self.parts.num_generations,
            rng=random.Random(seed),
            step=number,
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
        """Log-probabilities that shaping, keep or the advantage read, per row; nothing where none of them does."""
        wanted = needed(self.parts.method.scoring_plugins()) & {"old_logp", "old_entropy", "ref_logp"}
        found: dict[str, list[list[float]]] = {name: [] for name in sorted(wanted)}
        size = self.parts.rows_per_micro_batch
        for chunk in (mine[i : i + size] for i in range(0, len(mine) if wanted else 0, size)):
            table = rows.scored(chunk, self.parts.stack)
            item = rows.MicroBatch(list(chunk), table, step.counts(table))
            values: dict[str, Tensor] = dict(
                zip(("old_logp", "old_entropy"), self._logp(self.model, item), strict=True)
            )
            if "ref_logp" in wanted and self.reference is not None:
                with self.reference.use() as model:
                    values["ref_logp"] = self._logp(model, item)[0]
            for name in found:
                found[name] += [row[: len(r.tokens)].tolist() for row, r in zip(values[name], chunk, strict=True)]
        return found

    # --- the loss of a micro-batch ---------------------------------------------------------------------------------

    def micro_loss(self, model: Any, item: rows.MicroBatch) -> tuple[Tensor, dict[str, Summed]]:
        """Score the rows with the current policy and hand them to the pure step."""
        if not item.rollouts:
            return self._no_rows(model), {}
        inputs = self._rows(item, item.scored.mask)
        extra = self._frozen(item, inputs)
        if "divergence" in extra:
            inputs = extra.pop("divergence")
        found = self.parts.likelihood(model, inputs)
        table, device = item.scored, found.logp.device
        batch = TokenBatch(
            tokens=table.tokens.to(device),
            mask=table.mask.to(device),
            logp=found.logp,
            entropy=found.entropy,
            old_logp=_first(item.logps.get("old_logp"), table.old_logp, found.logp).to(device).detach(),
            old_entropy=_first(item.logps.get("old_entropy"), table.old_entropy, found.entropy).to(device).detach(),
            ref_logp=extra.get("ref_logp"),
            ref_divergence=found.divergence,
            advantage=table.advantage.to(device),
            **{name: _to(getattr(table, name), device) for name in SCORED_FIELDS},
        )
        number = self.state.global_step
        loss, metrics = step.loss(batch, self.parts.method, item.counts, step=number, progress=self._progress(number))
        metrics["entropy"] = Summed((batch.entropy.detach() * batch.mask).sum(), batch.mask.sum())
        return loss, metrics

    def _frozen(self, item: rows.MicroBatch, inputs: Rows) -> dict[str, Any]:
        """What the reference says of the rows; it never changes, so it is computed once per micro-batch."""
        if self.reference is None or ("ref_logp" in item.logps and self.parts.divergence is None):
            return {name: item.logps[name] for name in ("ref_logp",) if name in item.logps}
        with self.phase("reference"), self.reference.use() as model:
            found = self.parts.likelihood(model, inputs)
            asked = against(inputs.ask, self.parts.divergence, model, found.hidden) if self.parts.divergence else None
        item.logps["ref_logp"] = found.logp
        if asked is None:
            return {"ref_logp": found.logp}
        return {"ref_logp": found.logp, "divergence": Rows(inputs.inputs, asked)}

    def _rows(self, item: rows.MicroBatch, mask: Tensor) -> Rows:
        """Model inputs: one row per prompt where the model can and it pays, otherwise one row per completion."""
        prompts, answers = [r.prompt for r in item.rollouts], [r.tokens for r in item.rollouts]
        return self.sharing.rows(prompts, answers, mask, self.accelerator.device)

    def _logp(self, model: Any, item: rows.MicroBatch) -> tuple[Tensor, Tensor]:
        training = model.training
        model.eval()
        with torch.no_grad():
            found = self.parts.likelihood(model, self._rows(item, item.scored.mask))
        model.train(training)
        return found.logp, found.entropy

    def _no_rows(self, model: Any) -> Tensor:
        """A loss of zero that touches every parameter, so that all ranks take part in the gradient exchange."""
        pad = self.encoder.pad_id
        inputs = self.encoder.collate([Prompt([pad], [0])], [[pad]])
        inputs = {name: value.to(self.accelerator.device) for name, value in inputs.items()}
        ask = Ask(torch.ones(1, 1, dtype=torch.bool, device=self.accelerator.device))
        idle = sum(p.sum() for p in model.parameters() if p.requires_grad)
        return model(**inputs, ask=ask).logp.sum() * 0.0 + idle * 0.0

    # --- what a checkpoint must remember ---------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """Curriculum, statistics per prompt, the random state of the picks, and rollouts still to be trained on."""
        return {
            "curriculum": self.parts.curriculum.state_dict(),
            "prompts": self.prompt_stats,
            "rng": _plain(self.rng.getstate()),
            "cycle": [[records.pack(item) for item in micro] for micro in self._cycle] if self._mid_cycle() else [],
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `extra_state` returned."""
        self.parts.curriculum.load_state_dict(state["curriculum"])
        self.prompt_stats = dict(state["prompts"])
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))
        self._cycle = [[records.unpack(item) for item in micro] for micro in state["cycle"]]

    def _mid_cycle(self) -> bool:
        return self.state.global_step % (self.steps_per_cycle * self.args.num_iterations) != 0


def _rewards_until(step: int, folder: RunFolder) -> list[float]:
    """Rewards that a run logged before it was interrupted, so that a resumed one still starts at its first step."""
    logged = folder.metrics() if step else []
    return [one["reward"] for one in logged if one["phase"] == "train" and "reward" in one and one["step"] <= step]


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Train; return held-out accuracy before and after, rewards at both ends, and minutes."""
    begin = time.monotonic()
    set_seed(cfg.tree["seed"])
    tasks = build(cfg.tree["dataset"])("train")
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    parts = Parts(cfg, tasks)
    bundle.model = with_adapter(bundle.model, cfg.tree.get("peft"))
    args = _arguments(cfg, folder, parts, len(tasks))
    held_out = HeldOut(cfg, bundle, parts.stack, parts.sampling)
    resume = newest_checkpoint(cfg, folder)
    if not resume and hasattr(parts.curriculum, "prepare"):  # a checkpoint holds what it found
        parts.curriculum.prepare(bundle.model, bundle.encoder)
    trainer = Grpo(bundle, cfg, args, tasks, parts)
    limit = parts.sampling.max_tokens
    start = checkpoint.step_of(resume) if resume else 0
    rewards = _rewards_until(start, folder)
    with progress(args.max_steps, "GRPO", ["reward", "tok/s", "length"], start=start) as bar:
        held_out.measure("before", bar)

        def show(number: int, metrics: dict[str, float]) -> None:
            if "reward" in metrics:
                rewards.append(metrics["reward"])
                if number == 1 and metrics["cut_at_limit"] > 0.5:
                    bar.say(f"{metrics['cut_at_limit']:.0%} of the completions reached rollout.max_tokens={limit}")
                if number == 1 and not any(name.startswith("reward/") for name in metrics):
                    bar.say(f"no reward ({', '.join(parts.stack.names)}) applies to step 1, which teaches nothing")
                bar.update(
                    number, {"reward": metrics["reward"], "tok/s": metrics["tokens_per_s"], "length": metrics["length"]}
                )

        trainer.attach(folder, on_log=show, own=cfg.tree["trainer"])
        trainer.sharing.tell = bar.say
        trainer.train_or_stop(resume)
        trainer.save_model(str(folder.model))
        held_out.measure("after", bar)
    ends = max(1, min(5, len(rewards) // 4))
    return {
        "reward": {"start": mean(rewards[:ends]), "end": mean(rewards[-ends:])} if rewards else None,
        "held_out": held_out.result(),
        "steps": trainer.state.global_step,
        "minutes": (time.monotonic() - begin) / 60,
        "objective": held_out.objective(default=mean(rewards[-ends:]) if rewards else 0.0),
    }


def _arguments(cfg: Config, folder: RunFolder, parts: Parts, tasks: int) -> GRPOConfig:
    accumulation = int(cfg.tree["trainer"].get("gradient_accumulation_steps", 1))
    rows_per_step = parts.rows_per_micro_batch * accumulation * world_size()
    span = cfg.tree["trainer"].get("steps_per_generation") or accumulation
    if span % accumulation:
        raise ConfigError(
            f"trainer.steps_per_generation={span} micro-batches are no whole number of optimizer steps; choose a "
            f"multiple of trainer.gradient_accumulation_steps={accumulation}"
        )
    # GRPOConfig wants an even batch and at least two generations; both fields are read by nobody here.
    even = parts.rows_per_micro_batch + parts.rows_per_micro_batch % 2
    return training_arguments(
        GRPOConfig,
        cfg,
        folder,
        max_steps=epochs_to_steps(cfg, tasks, max(1, rows_per_step // parts.num_generations)),
        beta=0.0,
        num_generations=2,
        per_device_train_batch_size=even,
        temperature=parts.sampling.temperature or 1.0,
        max_completion_length=parts.sampling.max_tokens,
    )


def _unused(**_: Any) -> list[float]:
    raise AssertionError("rewards are scored by rlpost's own stack")


def _first(*values: Tensor | None) -> Tensor:
    return next(value for value in values if value is not None)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _plain(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, list(internal), gauss]
