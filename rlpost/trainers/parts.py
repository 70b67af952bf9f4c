"""The built plug-ins of a GRPO run."""

from collections.abc import Sequence
from typing import Any

from rlpost import assemble
from rlpost.config import Config, build
from rlpost.errors import ConfigError, DataError
from rlpost.types import Task


class Parts:
    """What the recipe picked, ready to call. Raises DataError where there is no task, ConfigError for an engine."""

    def __init__(self, cfg: Config, tasks: Sequence[Task]):
        self.tree, self.states = assemble.with_states(cfg.tree)
        tree = self.tree
        if not tasks:
            raise DataError("the dataset has no task to train on; look at its path, split and filters")
        self.stack = assemble.reward_stack(tree)
        self.method = assemble.method(tree)
        self.curriculum = build(tree["curriculum"])
        self.curriculum.start(tasks)
        self.collect = build(tree["rollout"])
        self.likelihood = build(tree["likelihood"])
        self.engine = _engine(str(tree["rollout"].get("engine", "transformers")))
        self.sampling = assemble.sampling(tree["rollout"])
        self.num_generations = int(tree["rollout"]["num_generations"])
        self.max_draws = int(tree["rollout"].get("max_draws") or 1)
        self.rows_per_micro_batch = int(tree["trainer"]["per_device_train_batch_size"])
        self.divergence = build(tree["divergence"]) if tree.get("divergence") else None
        self.follows = build(tree["reference"]) if tree.get("reference") else None
        self.critic: Any = build(tree["critic"]) if tree.get("critic") else None
        self.critic_coef = assemble.coefficient((tree.get("critic") or {}).get("coef", 1.0))
        self.replay: Any = build(tree["replay"]) if tree.get("replay") else None
        self.metrics = {name: build(node) for name, node in (tree.get("metric") or {}).items()}
        self.reads = self.method.reads()


def _engine(name: str) -> str:
    """The name of a known engine. Raises ConfigError for another."""
    if name not in ("transformers", "vllm"):
        raise ConfigError(f"rollout.engine={name} is unknown; choose transformers or vllm")
    return name
