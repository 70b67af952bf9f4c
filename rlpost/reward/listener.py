"""Rewards of a second model that listens: can it tell the right choice from the thoughts alone?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from rlpost.errors import ConfigError, DataError
from rlpost.lift import per_rollout
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout

# The form of reward `format`, in parts: thoughts and answer hold no further tag.
_TEXT = r"(?:(?!</?(?:think|answer)>).)"
FORM = re.compile(
    rf"\s*<think>(?P<thought>{_TEXT}*)</think>(?P<between>\s*)<answer>(?P<gap>\s*)(?P<answer>{_TEXT}+?)\s*</answer>\s*",
    re.DOTALL,
)
SAYS = (
    r"(?i:\b(?:so|therefore|thus|hence|finally|in conclusion|(?:the |my )?(?:final |correct |right )?(?:answer|choice)"
    r"(?: is| would be)?|i (?:choose|pick|prefer|select)))\b[^.!?\n]*?(?<!\w)(?:{choices})(?!\w)[^.!?\n]*[.!?]?"
)
ALONE = r"(?:^|(?<=[.!?\n]))\s*(?:{choices})[.!?]?\s*$"


class _Parts(NamedTuple):
    thought: str
    between: str
    gap: str
    answer: str


@per_rollout
def choice(rollout: Rollout) -> float | None:
    """1 where a completion of the form <think>..</think><answer>..</answer> answers with the right choice, else 0.

    Equation:
        r_acc = 1[both tags parse, in order, once] 1[answer = gold]
    Edge cases:
        Spaces around the answer do not count. None where the task has no answer.
    Paper: Listener-Rewarded Thinking in VLMs for Image Preferences, arXiv 2506.22832.
    """
    if rollout.task.answer is None:
        return None
    parts = _parts(rollout.text)
    return float(parts is not None and parts.answer == str(rollout.task.answer))


def listener(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "listener",
    column: str = "choices",
    says: str = SAYS,
    both_orders: bool = False,
) -> list[float | None]:
    """How likely a frozen model finds the right choice when it reads the same question and the completion's thoughts.

    Equation:
        c = the thoughts without what states the choice;  z = logits of the listener's next token after the task's own
        images and question and the answer "<think> c </think> <answer>"
        r = softmax over the choices of z, at the right one; where choices do not begin with different tokens, z is the
        summed log-probability of each
    Edge cases:
        0 where the tags do not parse in order, once each; None where the task has no answer. `column` holds a task's
        choices. `says` is the regular expression of what is taken out, with {choices} for any of them: by default from
        a concluding word (so, the answer is, I choose, ...) that leads to a choice up to the end of its sentence; boxed
        text and a choice that is the whole last sentence go as well. `both_orders` takes the mean with a second look at
        the images the other way round, choices exchanged, in the thoughts too: for two images and two choices.
        `info` gets `listener_choice`, which metric disagreement reads, and `listener_right`.
    Paper: Listener-Rewarded Thinking in VLMs for Image Preferences, arXiv 2506.22832 (v3 withdrawn). Assumed: the right
        choice is scored and not the reasoner's own; the softmax is over the choices alone; what is taken out, which the
        paper does not give.
    """
    found: list[float | None] = [None if r.task.answer is None else 0.0 for r in rollouts]
    heard = []
    for i, rollout in enumerate(rollouts):
        parts = _parts(rollout.text)
        if rollout.task.answer is not None and parts is not None:
            heard.append((i, parts, _choices(rollout, column)))
    if not heard:
        return found
    asked = [
        _Asked(rollouts[i], choices, parts._replace(thought=stripped(parts.thought, choices, says)))
        for i, parts, choices in heard
    ]
    probs = _ask(models[role], asked)
    if both_orders:
        other = _ask(models[role], [_swapped(one) for one in asked])
        probs = [
            [(p + q) / 2 for p, q in zip(one, two[::-1], strict=True)] for one, two in zip(probs, other, strict=True)
        ]
    for (i, _, choices), one in zip(heard, probs, strict=True):
        gold = choices.index(str(rollouts[i].task.answer))
        rollouts[i].info["listener_choice"] = choices[max(range(len(one)), key=one.__getitem__)]
        found[i] = rollouts[i].info["listener_right"] = one[gold]
    return found


def stripped(thought: str, choices: Sequence[str], says: str = SAYS) -> str:
    """The thoughts without what states the choice."""
    any_of = "|".join(re.escape(one) for one in sorted(choices, key=len, reverse=True))
    try:
        patterns = [re.compile(one.replace("{choices}", any_of), re.DOTALL) for one in (says, ALONE)]
    except re.error as error:
        raise ConfigError(f"reward listener: says={says!r} is no regular expression: {error}") from error
    thought = re.sub(r"\\boxed\{[^{}]*\}", "", thought)
    for pattern in patterns:
        thought = pattern.sub("", thought)
    return thought


def answered(text: str) -> str | None:
    """The answer of a completion that has the form, without spaces around it."""
    parts = _parts(text)
    return None if parts is None else parts.answer


class _Asked(NamedTuple):
    rollout: Rollout
    choices: list[str]
    parts: _Parts


def _ask(model: Scorer, asked: Sequence[_Asked]) -> list[list[float]]:
    return model.choice_probs(
        [one.rollout.task.prompt for one in asked],
        [[one.parts.gap + choice for choice in one.choices] for one in asked],
        media=[one.rollout.task.media for one in asked],
        begun=[f"<think>{one.parts.thought}</think>{one.parts.between}<answer>" for one in asked],
    )


def _swapped(one: _Asked) -> _Asked:
    """The same with its two images and its two choices exchanged."""
    task = one.rollout.task
    if len(task.media) != 2 or len(one.choices) != 2:
        raise ConfigError(
            f"reward listener: both_orders needs two images and two choices, task {task.id} has {len(task.media)} and "
            f"{len(one.choices)}; set reward.listener.both_orders=false"
        )
    first, second = one.choices
    either = rf"(?<!\w)(?:{re.escape(first)}|{re.escape(second)})(?!\w)"
    thought = re.sub(either, lambda found: second if found[0] == first else first, one.parts.thought)
    swapped = replace(one.rollout, task=replace(task, media=task.media[::-1]))
    return one._replace(rollout=swapped, parts=one.parts._replace(thought=thought))


def _parts(text: str) -> _Parts | None:
    found = FORM.fullmatch(text)
    return None if found is None else _Parts(*found.group("thought", "between", "gap", "answer"))


def _choices(rollout: Rollout, column: str) -> list[str]:
    choices = rollout.task.columns.get(column)
    if not isinstance(choices, Sequence) or isinstance(choices, str) or str(rollout.task.answer) not in choices:
        raise DataError(
            f"task {rollout.task.id}: reward listener needs its choices in the column {column!r}, with the answer "
            f"{rollout.task.answer!r} among them; found {choices!r}"
        )
    return [str(one) for one in choices]
