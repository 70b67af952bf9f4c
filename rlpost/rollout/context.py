"""What a rollout may ask of the run: completions of tasks (with prefixes), scores, models, and the progress."""

import random
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rlpost.advantage.total import weighted_sum
from rlpost.errors import ConfigError, DataError
from rlpost.models.encode import Encoder
from rlpost.rollout.engine import Completion, Sampling
from rlpost.rollout.start import Start
from rlpost.stack import RewardStack
from rlpost.types import Prompt, Rollout, Stop, Task

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
    encoded: dict[int, tuple[Task, Prompt]] = field(default_factory=dict)  # known already, by the task's id()
    _groups: int = 0

    # --- completions -----------------------------------------------------------------------------------------------

    def generate(
        self,
        tasks: Sequence[Task],
        n: int,
        *,
        group: Sequence[str] | None = None,
        role: str = "policy",
        trains: bool = True,
        prefixes: Sequence[Sequence[int] | Start] | None = None,
        max_tokens: int | None = None,
    ) -> list[Rollout]:
        """`n` completions of each task, side by side. A prefix is continued, and its tokens are the row's.

        A prefix of plain token ids is the environment's and does not train; a `Start` says who wrote it and what
        trains. `group` names each task's group (default: a new group per task); `trains` False makes rows that only
        inform. `max_tokens` bounds what is written after the prefix.
        """
        if not tasks or n == 0:
            return []
        names = list(group) if group is not None else self.new_groups(len(tasks))
        starts = [_start(p) for p in prefixes] if prefixes is not None else [Start() for _ in tasks]
        prompts = [self._encoded(task) for task in tasks]
        asked = [continued(prompt, start.tokens) for prompt, start in zip(prompts, starts, strict=True)]
        sampling = self.sampling if max_tokens is None else replace(self.sampling, max_tokens=max_tokens)
        found = self.engine(asked, n, sampling)
        rows = []
        for i, completion in enumerate(found):
            k = i // n
            whole = starts[k] + Start.given(completion.tokens, "policy", trains=trains, logp=completion.logp)
            row = self._row(tasks[k], names[k], prompts[k], whole, completion.stop, role)
            row.info.update(completion.info)
            rows.append(row)
        return rows

    def branch(
        self,
        rows: Sequence[Rollout],
        at: Sequence[int],
        *,
        insert: Sequence[int] = (),
        trains: bool = True,
        max_tokens: int | None = None,
    ) -> list[Rollout]:
        """One continuation of each row after its first `at` tokens and the `insert`ed ones, in the row's group.

        The kept tokens stay what they were (with `trains` False they do not train), the inserted ones are the
        environment's, and `fork` is where the row was left.
        """
        starts = [
            Start.of(row, n, trains=trains) + Start.given(insert, "environment")
            for row, n in zip(rows, at, strict=True)
        ]
        tasks, groups = [row.task for row in rows], [row.group for row in rows]
        found = self.generate(tasks, 1, group=groups, prefixes=starts, max_tokens=max_tokens)
        for row, n in zip(found, at, strict=True):
            row.fork = n
        return found

    # --- rows that the policy did not sample from the row's own prompt ---------------------------------------------

    def written(self, task: Task, group: str, whole: Start, *, role: str, stop: Stop = "eos") -> Rollout:
        """A row that is given whole, under the task's own prompt."""
        return self._row(task, group, self.encoder.prompt(task), whole, stop, role)

    def expert(self, task: Task, group: str) -> Rollout:
        """The row of a task's demonstration: source and role "expert"; other turns in it are the environment's.

        No reward applies to it (its scores are None), so that it has advantage 0 and is left out of every statistic of
        its group; it is still a row, that a term may teach. Raises DataError where the task has no demonstration.
        """
        if not task.demonstration:
            raise DataError(
                f"task {task.id} has no demonstration, which this rollout needs; pick a dataset with answers, such as "
                "dataset=arithmetic_sft"
            )
        answer = self.encoder.completion(task, task.demonstration)
        source = ["expert" if trains else "environment" for trains in answer.trains]
        whole = Start(answer.tokens, answer.trains, [0.0] * len(answer.tokens), source)
        row = self.written(task, group, whole, role="expert")
        self.unscored([row])
        return row

    def demonstration(self, task: Task) -> list[int]:
        """The tokens of the demonstration's first turn without its stop token; none where there is no demonstration."""
        if not task.demonstration:
            return []
        answer = self.encoder.completion(task, task.demonstration)
        tokens = []
        for token, trains in zip(answer.tokens, answer.trains, strict=True):
            if not trains or token in self.encoder.stop_ids:
                break
            tokens.append(token)
        return tokens

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text that is written into a completion."""
        return list(self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"])

    # --- scores ----------------------------------------------------------------------------------------------------

    @property
    def models(self) -> Mapping[str, Any]:
        """Second models by role."""
        return self.stack.models

    def score(self, rollouts: Sequence[Rollout]) -> None:
        """Run the reward stack; scores are stored, and the step scores only what has none."""
        self.stack.score(rollouts, {"rng": self.rng, "step": self.step, "progress": self.progress})

    def totals(self, rollouts: Sequence[Rollout], *, reward: str = "") -> list[float]:
        """The score of each row, NaN where none applies: the reward that is named, or the weighted sum of all.

        Raises ConfigError where the run has no such reward.
        """
        if reward and reward not in self.stack.names:
            raise ConfigError(f"the rollout names the reward {reward!r}; this run has {list(self.stack.names)}.")
        self.score(rollouts)
        table = self.stack.table(rollouts)
        column = table[:, self.stack.names.index(reward)] if reward else weighted_sum(table, self.stack.weights)
        return column.tolist()

    def unscored(self, rollouts: Sequence[Rollout]) -> None:
        """Say that no reward applies to these rows, so that the reward stack leaves them alone."""
        for rollout in rollouts:
            rollout.scores = dict.fromkeys(self.stack.names)

    def worth(self, rollout: Rollout, total: float | None) -> None:
        """Say what a row's weighted total is, None for none: the reward stack leaves it alone.

        Raises ConfigError where no reward has a weight.
        """
        self.unscored([rollout])
        heavy = [(name, float(w)) for name, w in zip(self.stack.names, self.stack.weights, strict=True) if float(w)]
        if not heavy and self.stack.names:
            raise ConfigError("the rollout says what rows are worth, but every reward of this run has weight 0")
        if total is not None and heavy:
            rollout.scores[heavy[0][0]] = total / heavy[0][1]

    def new_groups(self, n: int) -> list[str]:
        """Names of `n` groups that no other rollout of this step has."""
        names = [f"{self.names}.{self._groups + i}" for i in range(n)]
        self._groups += n
        return names

    def _encoded(self, task: Task) -> Prompt:
        known = self.encoded.get(id(task))
        return known[1] if known else self.encoder.prompt(task)

    def _row(self, task: Task, group: str, prompt: Prompt, whole: Start, stop: Stop, role: str) -> Rollout:
        return Rollout(
            task=task,
            group=group,
            prompt=prompt,
            tokens=list(whole.tokens),
            trains=list(whole.trains),
            gen_logp=list(whole.logp),
            text=self.encoder.decode(whole.tokens),
            stop=stop,
            role=role,
            version=self.version,
            span=[-1] * len(whole.tokens),
            source=list(whole.source),
        )


def _start(prefix: Sequence[int] | Start) -> Start:
    return prefix if isinstance(prefix, Start) else Start.given(prefix, "environment")


def continued(prompt: Prompt, start: Sequence[int]) -> Prompt:
    """The prompt with tokens of text behind it."""
    return replace(prompt, ids=[*prompt.ids, *start], kinds=[*prompt.kinds, *([0] * len(start))]) if start else prompt
