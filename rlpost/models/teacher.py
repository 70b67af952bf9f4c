"""What a teacher says of the policy's own tokens: `teacher_logp` and `teacher_divergence`, from the model of that role.

A teacher may be several, one per task (a scorer with `of(task)`), and may be shown another prompt than the policy (one
with `prompt(task)`); `models/scorer/teachers.py` has both.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from rlpost.errors import ModelError
from rlpost.models.encode import Encoder
from rlpost.models.scorer.base import Chat, Scorer
from rlpost.types import Mask, Rollout, Task

# Read by both tokenizers, once: digits, a capital, an accent and spaces, on which tokenizers differ.
PROBE = Task("teacher-probe", ({"role": "user", "content": "What is 12 + 345?"},))
ANSWER = "It is 357, voil\u00e0  done."
CLOSE = 0.05  # nats between two scores of the same tokens; other tokens are further apart


class Teacher:
    """Asks a second model for the log-probabilities of the policy's tokens, at temperature 1.

    Raises ModelError, at the first call, where the model has another tokenizer or another chat template.
    """

    def __init__(self, scorer: Scorer, encoder: Encoder):
        self.scorer, self.encoder = scorer, encoder
        self._proved: list[Any] = []

    def logp(self, rollouts: Sequence[Rollout]) -> list[list[float]]:
        """Log-probability in nats of every token of every rollout, 0 in rows without a token that trains.

        Raises ModelError where a row has media, or continues another prompt than its task's.
        """
        places = [i for i, r in enumerate(rollouts) if any(r.trains)]
        self._refuse_others([rollouts[i] for i in places])
        asked = {i: self._asked(rollouts[i].task) for i in places}
        found = [[0.0] * len(r.tokens) for r in rollouts]
        for scorer in {id(one): one for one, _ in asked.values()}.values():
            self._prove(scorer)
            own = [i for i in places if asked[i][0] is scorer]
            answers = scorer.logp([asked[i][1] for i in own], [rollouts[i].tokens for i in own])
            for i, answer in zip(own, answers, strict=True):
                found[i] = list(answer)
        return found

    def predicting(self, rollouts: Sequence[Rollout], mask: Mask) -> tuple[Any, Float[Tensor, "M D"]]:
        """The teacher's model, and its states from which the tokens of the mask are predicted, in row-major order.

        Raises ModelError for a teacher that is not one model of this process, and where a row has media.
        """
        scorer: Any = self.scorer
        if not hasattr(scorer, "predicting"):
            raise ModelError("models.teacher gives no distribution over tokens; set scorer@models.teacher=own")
        self._prove(scorer)
        _refuse_media({id(r.task): r.task for r in rollouts}.values())
        return scorer.predicting([r.prompt for r in rollouts], [r.tokens for r in rollouts], mask)

    def _asked(self, task: Task) -> tuple[Scorer, Chat]:
        """The scorer of a task, and the prompt that it is shown."""
        scorer: Any = self.scorer
        while hasattr(scorer, "of"):
            scorer = scorer.of(task)
        return scorer, scorer.prompt(task) if hasattr(scorer, "prompt") else task.prompt

    def _refuse_others(self, rollouts: Sequence[Rollout]) -> None:
        own = {id(r.task): r.task for r in rollouts}
        _refuse_media(own.values())
        ids = {key: self.encoder.prompt(task).ids for key, task in own.items()}
        for r in rollouts:
            if r.prompt.ids != ids[id(r.task)]:
                raise ModelError(
                    f"a rollout of task {r.task.id} continues another prompt than the task's, and the teacher would be "
                    "asked about the task's; pick another rollout"
                )

    def _prove(self, scorer: Scorer) -> None:
        """The same answer as text, in the teacher's own tokens, and in the policy's; once per scorer."""
        if any(one is scorer for one in self._proved):
            return
        tokens = self.encoder.completion(PROBE, ANSWER).tokens
        text, ours = scorer.logp([PROBE.prompt, PROBE.prompt], [ANSWER, tokens])
        if len(text) != len(ours) or max(abs(a - b) for a, b in zip(text, ours, strict=True)) > CLOSE:
            raise ModelError(
                "models.teacher has another tokenizer or chat template than the policy, so it cannot score its tokens; "
                "name a teacher of the same family"
            )
        self._proved.append(scorer)


def _refuse_media(tasks: Any) -> None:
    for task in tasks:
        if task.media:
            raise ModelError(f"the teacher reads text only, and task {task.id} has media; train on text tasks")
