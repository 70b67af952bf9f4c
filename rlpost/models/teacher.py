"""What a teacher says of the policy's own tokens: `teacher_logp`, from the second model of that role."""

from collections.abc import Sequence

from rlpost.errors import ModelError
from rlpost.models.encode import Encoder
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout, Task

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
        self._proved = False

    def logp(self, rollouts: Sequence[Rollout]) -> list[list[float]]:
        """Log-probability in nats of every token of every rollout, 0 in rows without a token that trains.

        Raises ModelError where a row has media, or continues another prompt than its task's.
        """
        if not self._proved:
            self._prove()
        rows = [r for r in rollouts if any(r.trains)]
        own = {id(r.task): r.task for r in rows}
        for task in own.values():
            if task.media:
                raise ModelError(f"the teacher reads text only, and task {task.id} has media; train on text tasks")
        ids = {key: self.encoder.prompt(task).ids for key, task in own.items()}
        for r in rows:
            if r.prompt.ids != ids[id(r.task)]:
                raise ModelError(
                    f"a rollout of task {r.task.id} continues another prompt than the task's, and the teacher would be "
                    "asked about the task's; pick another rollout"
                )
        answers = iter(self.scorer.logp([r.task.prompt for r in rows], [r.tokens for r in rows]))
        return [list(next(answers)) if any(r.trains) else [0.0] * len(r.tokens) for r in rollouts]

    def _prove(self) -> None:
        """The same answer as text, in the teacher's own tokens, and in the policy's."""
        tokens = self.encoder.completion(PROBE, ANSWER).tokens
        text, ours = self.scorer.logp([PROBE.prompt, PROBE.prompt], [ANSWER, tokens])
        if len(text) != len(ours) or max(abs(a - b) for a, b in zip(text, ours, strict=True)) > CLOSE:
            raise ModelError(
                "models.teacher has another tokenizer or chat template than the policy, so it cannot score its tokens; "
                "name a teacher of the same family"
            )
        self._proved = True
