"""`rlpost grpo`: rollouts, credit and the token loss inside TRL's GRPO trainer, whose step is replaced whole."""

import random
import time
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import set_seed
from trl import GRPOConfig, GRPOTrainer

from rlpost import rows, step
from rlpost.built import training_tasks
from rlpost.config import Config, build
from rlpost.errors import ConfigError
from rlpost.fields import REFERENCE, TEACHER
from rlpost.likelihood.scoring import is_seeded, teach
from rlpost.models.encode import Bundle
from rlpost.models.roles import Reference, reference, start_from, with_adapter
from rlpost.models.teacher import Teacher
from rlpost.rollout.notes import Notes
from rlpost.run import checkpoint
from rlpost.run.evaluations import note_data
from rlpost.run.folder import RunFolder
from rlpost.run.progress import progress
from rlpost.schedule import bind
from rlpost.step import Summed
from rlpost.trainers import records, vllm
from rlpost.trainers.arguments import epochs_to_steps, newest_checkpoint, training_arguments, world_size
from rlpost.trainers.collect import Collects
from rlpost.trainers.critic import Critic
from rlpost.trainers.heldout import HeldOut
from rlpost.trainers.parts import Parts
from rlpost.trainers.replay import Replay
from rlpost.trainers.scores import Scores
from rlpost.trainers.seams import OwnStep, gathered
from rlpost.trainers.sharing import Sharing, is_sharded
from rlpost.trainers.states import States
from rlpost.trainers.streams import Streams
from rlpost.types import Task


class Grpo(Scores, Collects, OwnStep, GRPOTrainer):
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
        self.replay = Replay(parts.replay) if parts.replay else None
        self.streams = Streams(self, parts.tree, tasks, bundle.encoder)
        self.states = States(parts, [stream.name for stream in self.streams.all], self.accelerator)
        reads = parts.reads | self.streams.reads()
        self.reference = reference(self.model, cfg.tree) if reads & REFERENCE else None
        self.teacher = Teacher(parts.stack.models["teacher"], bundle.encoder) if reads & TEACHER else None
        self.critic = Critic(parts.critic, parts.critic_coef, self) if parts.critic else None
        if parts.follows and self.reference:
            _refuse_fixed(self.reference, is_sharded(self.accelerator))
        self.sharing = Sharing(
            bundle.model,
            bundle.encoder,
            cfg.tree.get("kernels"),
            parts.likelihood,
            temperature=parts.sampling.temperature or 1.0,
            banned=bundle.encoder.suppress,
            accelerator=self.accelerator,
        )
        self.prompt_stats = Notes()
        self.vllm = vllm.start(self, bundle.encoder, parts.sampling) if parts.engine == "vllm" else None
        self._cycle: list[list[rows.MicroBatch]] = []
        self._means: dict[str, float] = {}
        self._draw = 0  # of a likelihood that draws: one draw for each of the `num_iterations`

    # --- the cycle: rollouts serve `steps` optimizer steps, `num_iterations` times ---------------------------------

    @property
    def steps_per_cycle(self) -> int:
        """Optimizer steps that one set of rollouts is cut into."""
        return max(1, self.args.steps_per_generation // self.args.gradient_accumulation_steps)

    def micro_batches(self, number: int) -> list[rows.MicroBatch]:
        """The micro-batches of an optimizer step; new rollouts at the start of a cycle."""
        self._move_reference(number)
        place = number % (self.steps_per_cycle * self.args.num_iterations)
        self._draw = place // self.steps_per_cycle
        if place == 0 or not self._cycle:
            self._cycle = self._collect(number)
            self._score_later_draws()
        items = self._cycle[place % self.steps_per_cycle]
        self._use_draw(items)
        if number:
            self.record({"tokens_spared_by_sharing": self.sharing.saved()})  # in the step before this one
        self.streams.deal(items)
        self._means = self._measure(items) if self.parts.method.measured else {}
        return items

    def _move_reference(self, number: int) -> None:
        """Let the reference follow the policy of `number` optimizer steps; what it said of the cycle's rows is old."""
        if self.parts.follows is None or self.reference is None:
            return
        share = bind(self.parts.follows, number, self._progress(number))(number)
        if share < 1.0:
            self.reference.move(share)
            for item in (item for micro in self._cycle for item in micro):
                item.logps.pop("ref_logp", None)

    def _score_later_draws(self) -> None:
        """What the old policy says of the rows in the draws to come; those of the first are scored as ever."""
        if not is_seeded(self.parts.likelihood):
            return
        now, filled = self._draw, [item for micro in self._cycle for item in micro if item.rollouts]
        with self.phase("score"):
            for k in range(now + 1, self.args.num_iterations):
                self._draw = k
                for item in filled:
                    item.logps[f"old_logp/{k}"], item.logps[f"old_entropy/{k}"] = self._logp(self.model, item)
        self._draw = now

    def _use_draw(self, items: Sequence[rows.MicroBatch]) -> None:
        """Let the old policy's word on this draw be the one that counts; the reference's on the last draw is void."""
        for item in items:
            if f"old_logp/{self._draw}" in item.logps:
                for name in ("old_logp", "old_entropy"):
                    item.logps[name] = item.logps.pop(f"{name}/{self._draw}")
                item.logps.pop("ref_logp", None)

    def _measure(self, items: Sequence[rows.MicroBatch]) -> dict[str, float]:
        """The means over the whole step that coefficients read: a pass without a gradient, summed over the ranks."""
        names = [term.name for term in self.parts.method.measured]
        mine = torch.zeros(len(names), dtype=torch.float64)
        number = self.state.global_step
        training = self.model.training
        self.model.eval()
        with self.phase("score"), torch.no_grad():
            for item in (item for item in items if item.rollouts):
                batch = self._batch(self.model, item)
                found = step.measure(
                    batch, self.parts.method, item.counts, step=self.clock(number), progress=self._progress(number)
                )
                mine += torch.stack([found[name].double().cpu() for name in names])
        self.model.train(training)
        total = torch.stack(gathered(mine, self.accelerator)).sum(0)
        return dict(zip(names, total.tolist(), strict=True))

    # --- the loss of a micro-batch ---------------------------------------------------------------------------------

    def micro_loss(self, model: Any, item: rows.MicroBatch) -> tuple[Tensor, dict[str, Summed]]:
        """The loss of the rollouts of a micro-batch and of what the streams put beside them."""
        learnt = self.critic.learn(item) if self.critic else {}  # its forward pass ends before the policy's begins
        loss, metrics = self._rollout_loss(model, item) if item.rollouts else (self.idle(model), {})
        metrics |= learnt
        loss, metrics = self.streams.add(model, item, loss, metrics)
        self.states.note(metrics)
        return loss, metrics

    def _rollout_loss(self, model: Any, item: rows.MicroBatch) -> tuple[Tensor, dict[str, Summed]]:
        """Score the rows with the current policy and hand them to the pure step."""
        batch, number = self._batch(model, item), self.state.global_step
        now = {"step": self.clock(number), "progress": self._progress(number)}
        loss, metrics = step.loss(batch, self.parts.method, item.counts, **now, means=self._means)
        metrics["entropy"] = Summed((batch.entropy.detach() * batch.mask).sum(), batch.mask.sum())
        if "old_logp" in item.logps and batch.old_logp is not None:  # otherwise both are the same
            change = torch.where(batch.mask, batch.logp.detach() - batch.old_logp, 0.0)
            metrics["kl_to_old"] = Summed((change.exp() - 1 - change).sum(), batch.mask.sum())
        return loss, metrics

    # --- what a checkpoint must remember ---------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        """What curricula, streams, replay, schedules, rewards, reference and critic remember, and rollouts in use."""
        return {
            "curriculum": self.parts.curriculum.state_dict(),
            "reward": self.parts.stack.state_dict(),
            "streams": self.streams.state_dict(),
            "replay": self.replay.state_dict() if self.replay else {},
            "states": self.states.state_dict(),
            "method": {name: one.state_dict() for name, one in self.parts.method.remembering.items()},
            "before": self.before,
            "prompts": dict(self.prompt_stats),
            "shared": self.sharing.tokens,
            "rng": _plain(self.rng.getstate()),
            "reference": self.reference.state() if self.reference else [],
            "critic": self.critic.state_dict() if self.critic else {},
            "cycle": [[records.pack(item) for item in micro] for micro in self._cycle] if self._mid_cycle() else [],
        }

    def load_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `extra_state` returned."""
        self.parts.curriculum.load_state_dict(state["curriculum"])
        self.parts.stack.load_state_dict(state.get("reward", {}))
        self.streams.load_state_dict(state["streams"])
        if self.replay:
            self.replay.load_state_dict(state.get("replay", {}))
        self.states.load_state_dict(state.get("states", {}))
        self._remember(state)
        self.before = state.get("before", 0)
        self.prompt_stats = Notes(state["prompts"])
        self.sharing.tokens = dict(state.get("shared", self.sharing.tokens))
        if self.reference:
            self.reference.load_state(state.get("reference", []))
        if self.critic:
            self.critic.load_state_dict(state.get("critic", {}))
        self._draw_on(state)
        self._cycle = [[records.unpack(item) for item in micro] for micro in state["cycle"]]

    def take_over(self, state: Mapping[str, Any], steps: int, tree: Mapping[str, Any]) -> None:
        """Go on from a run that ended after `steps` with `state`: its averages, its critic, its clock for schedules.

        `tree` is that run's configuration: where its data and curriculum are those of this run, the order goes on too.
        """
        self.before = state.get("before", 0) + steps
        self._remember(state)
        self.states.load_state_dict(state.get("states", {}))
        if self.critic and state.get("critic"):
            self.critic.load_state_dict(state["critic"])
        mine = self.cfg.tree
        if not mine.get("build") and all(tree.get(key) == mine.get(key) for key in ("dataset", "build", "curriculum")):
            self.parts.curriculum.load_state_dict(state["curriculum"])
            self._draw_on(state)

    def _remember(self, state: Mapping[str, Any]) -> None:
        for name, one in self.parts.method.remembering.items():
            if name in state.get("method", {}):
                one.load_state_dict(state["method"][name])

    def _draw_on(self, state: Mapping[str, Any]) -> None:
        version, internal, gauss = state["rng"]
        self.rng.setstate((version, tuple(internal), gauss))

    def _mid_cycle(self) -> bool:
        return self.state.global_step % (self.steps_per_cycle * self.args.num_iterations) != 0


def _refuse_fixed(reference: Reference, sharded: bool) -> None:
    """A reference without weights of its own, or with a part of them, cannot follow the policy."""
    if not reference.movable or sharded:
        why = (
            "its weights are sharded: use launch=torchrun"
            if sharded
            else "peft gives it none of its own: use peft=none"
        )
        raise ConfigError(f"reference: a reference that follows the policy needs a whole copy of it, but {why}")


def _rewards_until(step: int, folder: RunFolder) -> list[float]:
    """Rewards that a run logged before it was interrupted, so that a resumed one still starts at its first step."""
    logged = folder.metrics() if step else []
    return [one["reward"] for one in logged if one["phase"] == "train" and "reward" in one and one["step"] <= step]


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Train; return held-out accuracy before and after, rewards at both ends, and minutes."""
    begin = time.monotonic()
    set_seed(cfg.tree["seed"])
    tasks = training_tasks(cfg.tree, folder.path)
    note_data(folder, tasks)
    bundle = start_from(build(cfg.tree["model"])(), cfg.tree.get("init"))
    parts = Parts(cfg, tasks)
    bundle.model = with_adapter(bundle.model, cfg.tree.get("peft"))
    args = _arguments(cfg, folder, parts, len(tasks))
    held_out = HeldOut(cfg, bundle, parts.stack, parts.sampling, folder)
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

        trainer.attach(folder, on_log=show, own=cfg.tree["trainer"], limits=cfg.tree.get("ledger"))
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


def _plain(state: tuple[Any, ...]) -> list[Any]:
    return [state[0], list(state[1]), state[2]]
