"""Which of several forms of reasoning a completion opens with."""

from collections.abc import Sequence

from rlpost.lift import per_rollout
from rlpost.types import Rollout

FORMS = ("<ANSWER>", "<COT>", "<CODE>", "<LONG_COT>")


@per_rollout
def opening(rollout: Rollout, *, tags: Sequence[str] = FORMS) -> float | None:
    """The number of the tag that the completion opens with, from 0. It is no reward: its weight is 0.

    Edge cases:
        None where it opens with none of them. White space may stand before the tag; case counts. Of tags that begin
        alike the longest that fits is meant.

    Paper:
        ARM, arXiv 2505.20258: direct answer, short thoughts, code, long thoughts.
    """
    text = rollout.text.lstrip()
    fit = [tag for tag in tags if text.startswith(tag)]
    return float(list(tags).index(max(fit, key=len))) if fit else None
