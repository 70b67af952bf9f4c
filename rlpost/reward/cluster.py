"""Which completions of a prompt say the same: clusters by final answer, made without the gold answer."""

import re
from collections.abc import Sequence
from typing import Literal

from rlpost.lift import per_group
from rlpost.reward.correct import BARE, final_answer, number, plain
from rlpost.types import Rollout

Extract = Literal["only", "final", "marked"]
Kind = Literal["number", "text"]
# Beside a number they make an expression of it: x + 1 is not 1.
SIGNS = re.compile(r"[-−+*/^=<>\\_]")


@per_group
def answer_cluster(
    rollouts: Sequence[Rollout], *, kind: Kind = "number", extract: Extract = "final", max_numbers: int = 8
) -> list[float]:
    """The number of the cluster of equal final answers that a completion is in, for advantages that compare them.

    Equation:
        c_i = c_j where the answers of i and j in the group are equal; clusters are numbered from 0 as they come
    Edge cases:
        No reward: its option has weight 0. A completion without a final answer is a cluster of its own. The gold answer
        is not read: `kind` says whether answers are numbers (1,000 = 1000.0) or text, `extract` and `max_numbers` are
        those of reward `correct`.

    Paper:
        SEED-GRPO, arXiv 2505.12346: semantic clusters of answers.
    """
    answers = [answer_id(rollout, kind=kind, extract=extract, max_numbers=max_numbers) for rollout in rollouts]
    own = [i if answer is None else answer for i, answer in enumerate(answers)]
    numbers = {answer: float(n) for n, answer in enumerate(dict.fromkeys(own))}
    return [numbers[answer] for answer in own]


def answer_id(rollout: Rollout, *, kind: str, extract: str, max_numbers: int) -> str | None:
    """The final answer in a form that is equal for equal answers, without a look at the gold one; None without one.

    An answer that is no single number, such as \\boxed{x + 1}, counts as its text.
    """
    found = final_answer(rollout.text, extract=extract, max_numbers=max_numbers, numeric=kind == "number")
    if found is None:
        return None
    value = number(found) if kind == "number" and (BARE.fullmatch(found) or not SIGNS.search(found)) else None
    return (plain(found) or None) if value is None else f"{value.normalize():f}"
