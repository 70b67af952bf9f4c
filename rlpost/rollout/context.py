"""What a rollout may ask of the run: completions of tasks (with prefixes), scores, models, and the progress."""

import random
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlpost.models.encode import Encoder
from rlpost.rollout.engine import Completion, Sampling
from rlpost.stack import RewardStack
from rlpost.types import Prompt, Rollout, Task

Engine = Callable[[Sequence[Prompt], int, Sampling], list[Completion]]


@dataclass
class Context:
    """Handed to `collect`. `prompts` holds statistics per task that survive epochs and checkpoints.

    `names` starts the names of new groups; it differs between ranks and steps.
    """

    engine: Engine
    encoder: Encoder
    stack: RewardStack
    sampling: Sampling
    num_generations: int
    rng: random.Random
    step: int = 0
    progress: float = 0.0
    version: int = 0
    prompts: MutableMapping[str, Any] = field(default_factory=dict)
    names: str = "0"
    _groups: int = 0

    def generate(
        self,
        tasks: Sequence[Task],
        n: int,
        *,
        group: Sequence[str] | None = None,
        role: str = "policy",
        trains: bool = True,
        prefixes: Sequence[Sequence[int]] | None = None,
        max_tokens: int | None = None,
    ) -> list[Rollout]:
        """`n` completions of each task, side by side. A prefix is continued; its tokens are the row's but do not train.

        `group` names each task's group (default: a new group per task); `trains` False makes rows that only inform.
        """
        if not tasks or n == 0:
            return []
        names = list(group) if group is not None else self.new_groups(len(tasks))
        starts = [list(p) for p in prefixes] if prefixes is not None else [[] for _ in tasks]
        prompts = [self.encoder.prompt(task) for task in tasks]
        asked = [_continued(prompt, start) for prompt, start in zip(prompts, starts, strict=True)]
        sampling = self.sampling if max_tokens is None else replace(self.sampling, max_tokens=max_tokens)
        found = self.engine(asked, n, sampling)
        return [
            self._row(tasks[i // n], names[i // n], prompts[i // n], starts[i // n], completion, role, trains)
            for i, completion in enumerate(found)
        ]

    @property
    def models(self) -> Mapping[str, Any]:
        """Second models by role."""
        return self.stack.models

    def score(self, rollouts: Sequence[Rollout]) -> None:
        """Run the reward stack; scores are stored, and the step scores only what has none."""
        self.stack.score(rollouts, {"rng": self.rng, "step": self.step, "progress": self.progress})

    def new_groups(self, n: int) -> list[str]:
        """Names of `n` groups that no other rollout of this step has."""
        names = [f"{self.names}.{self._groups + i}" for i in range(n)]
        self._groups += n
        return names

    def _row(
        self, task: Task, group: str, prompt: Prompt, start: list[int], completion: Completion, role: str, trains: bool
    ) -> Rollout:
        tokens = start + completion.tokens
        return Rollout(
            task=task,
            group=group,
            prompt=prompt,
            tokens=tokens,
            trains=[False] * len(start) + [trains] * len(completion.tokens),
            gen_logp=[0.0] * len(start) + completion.logp,
            text=self.encoder.decode(tokens),
            stop=completion.stop,
            role=role,
            version=self.version,
            span=[-1] * len(tokens),
            source=["environment"] * len(start) + ["policy"] * len(completion.tokens),
        )


def _continued(prompt: Prompt, start: Sequence[int]) -> Prompt:
    return replace(prompt, ids=[*prompt.ids, *start], kinds=[*prompt.kinds, *([0] * len(start))]) if start else prompt
