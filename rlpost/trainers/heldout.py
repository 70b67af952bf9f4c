"""Accuracy on held-out tasks before and after training, by the run's own rewards."""

from dataclasses import replace
from typing import Any

from rlpost.config import Config, build
from rlpost.evaluation import Accuracy, accuracy, answer
from rlpost.models.encode import Bundle
from rlpost.rollout.engine import Sampling
from rlpost.rollout.evaluated import in_evaluation
from rlpost.run import evaluations
from rlpost.run.folder import RunFolder
from rlpost.run.progress import Progress
from rlpost.run.tables import Interval, paired
from rlpost.stack import RewardStack
from rlpost.usable import max_bad


class HeldOut:
    """Measures `evaluation.tasks` tasks of a split; nothing when that number is 0 or none of the scores is there."""

    def __init__(self, cfg: Config, bundle: Bundle, stack: RewardStack, sampling: Sampling, folder: RunFolder):
        self.folder = folder
        self.node = cfg.tree.get("evaluation") or {}
        self.bundle, self.stack, self.seed, self.share = bundle, stack, int(cfg.tree["seed"]), max_bad(cfg.tree)
        self.scores = [name for name in self.node.get("scores", []) if name in stack.names]
        wanted = int(self.node.get("tasks", 0))
        self.tasks = (
            list(build(cfg.tree["dataset"])(self.node.get("split", "test")))[:wanted] if wanted and self.scores else []
        )
        self.sampling = replace(sampling, temperature=float(self.node.get("temperature", sampling.temperature)))
        self.collect = in_evaluation(build(cfg.tree["rollout"])) if self.tasks else None
        self.found: dict[str, Accuracy] = {}

    def measure(self, when: str, bar: Progress) -> None:
        """Answer the tasks and keep the accuracy under `when` ("before" or "after")."""
        if not self.tasks:
            return
        n = int(self.node.get("num_generations", 1))
        how = {"n": n, "seed": self.seed, "collect": self.collect, "share": self.share}
        rollouts = answer(self.bundle, self.tasks, self.stack, self.sampling, **how)
        asked = {rollout.task.id for rollout in rollouts}
        self.tasks = [task for task in self.tasks if task.id in asked]
        if all(r.scores.get(name) is None for r in rollouts for name in self.scores):
            bar.say(f"held-out accuracy is not measured: none of {self.scores} applies to the tasks of the test split")
            self.tasks = []
            return
        threshold = float(self.node.get("threshold", 1.0))
        shown = evaluations.sampled(self.sampling, n)
        evaluations.save(self.folder, rollouts, when, scores=self.scores, threshold=threshold, **shown)
        found = self.found[when] = accuracy(rollouts, self.scores, threshold=threshold)
        bar.say(
            f"held-out pass@1 {when}: {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] on {len(self.tasks)} tasks"
        )

    def result(self) -> dict[str, Any] | None:
        """Both accuracies and their paired difference, with 95% intervals."""
        if not self.found:
            return None
        shown: dict[str, Any] = {"metric": "pass@1", "tasks": len(self.tasks)}
        for when, found in self.found.items():
            shown[when] = Interval(found.mean, found.low, found.high, len(found.per_task))
        if {"before", "after"} <= set(self.found):
            before, after = self.found["before"].per_task, self.found["after"].per_task
            both = [task for task in before if task in after]
            shown["gain"] = paired([before[task] for task in both], [after[task] for task in both])
        return shown

    def entries(self) -> dict[str, Any]:
        """The accuracies as an entry of a run's result."""
        return {"held_out": self.result()}

    def objective(self, *, default: float) -> float:
        """What a sweep maximises: held-out accuracy at the end, or `default` where nothing was held out."""
        return self.found["after"].mean if "after" in self.found else default
