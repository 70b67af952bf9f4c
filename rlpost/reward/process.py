"""Rewards that judge each span of a completion: a second model says of every step whether it is good."""

import re
from collections.abc import Mapping, Sequence

from rlpost import spans
from rlpost.errors import ConfigError
from rlpost.models.scorer.base import Scorer
from rlpost.types import Rollout, SpanScores

QUESTION = """A problem and the start of its solution follow. Is the last step right and useful?
Answer with {good} if it is, with {bad} if it is not.

Problem:
{question}

Solution so far:
{before}

Last step:
{step}"""


def step_scores(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "process",
    good: str = "+",
    bad: str = "-",
    until: str = "",
    template: str = QUESTION,
) -> list[SpanScores]:
    """How sure a model is that each span is good: its probability of `good` less that of `bad`, in [-1, 1].

    Equation:
        score_k = p(good | question, spans 1 .. k) - p(bad | question, spans 1 .. k), the two adding up to 1

    Edge cases:
        `until` joins spans until one ends with this expression and gives the last of them the score, the others None;
        the last span always ends one. Empty: each span alone. `template` has {question}, {before}, {step}, {good} and
        {bad}. A completion without marked spans is one span. Media of a task are not shown to the model.

    Paper:
        PURE, arXiv 2504.15275: a reward model with two classes at the end of each step.
        Assumed: a language model that is asked in words stands for a reward model trained on step labels.
    """
    try:
        closes = re.compile(f"(?:{until})$") if until else None
    except re.error as error:
        raise ConfigError(f"until={until!r} is no regular expression: {error}") from error
    if "{step}" not in template:
        raise ConfigError("the template of a reward of steps needs {step}")
    prompts, places = [], []
    found: list[SpanScores] = []
    for row, rollout in enumerate(rollouts):
        parts = spans.texts(rollout)
        found.append([None] * len(parts))
        for first, last in units(parts, closes):
            before, step = "".join(parts[:first]), "".join(parts[first : last + 1])
            prompts.append(_filled(template, rollout, before, step, good, bad))
            places.append((row, last))
    pairs = models[role].choice_probs(prompts, [[good, bad]] * len(prompts)) if prompts else []
    for (row, last), (yes, no) in zip(places, pairs, strict=True):
        found[row][last] = yes - no
    return found


def step_signs(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "process",
    good: str = "+",
    bad: str = "-",
    until: str = "",
    template: str = QUESTION,
) -> list[SpanScores]:
    """Whether a model finds each span good: 1 or -1, whichever is likelier. The reward's weight is the paper's size.

    Equation:
        score_k = 1 where p(good | question, spans 1 .. k) >= p(bad | question, spans 1 .. k), otherwise -1

    Reduces to:
        the sign of step_scores.

    Paper:
        Fine-Grained Human Feedback Gives Better Rewards for Language Model Training, arXiv 2306.01693: +-0.3 for
        relevance, +-0.5 for facts. Assumed: a language model that is asked in words stands for trained classifiers.
    """
    sure = step_scores(rollouts, models, role=role, good=good, bad=bad, until=until, template=template)
    return [[None if one is None else 1.0 if one >= 0 else -1.0 for one in row] for row in sure]


def step_drops(
    rollouts: Sequence[Rollout],
    models: Mapping[str, Scorer],
    *,
    role: str = "process",
    good: str = "+",
    bad: str = "-",
    until: str = "",
    template: str = QUESTION,
) -> list[SpanScores]:
    """By how much each span makes the text so far less bad: what it was without the span less what it is with it.

    Equation:
        score_k = p(bad | question, spans 1 .. k-1) - p(bad | question, spans 1 .. k);  p(bad | nothing written) = 0

    Reduces to:
        -p(bad | the whole text) when summed over the spans of a row.

    Edge cases:
        Those of step_scores, whose `until` and `template` it takes; the template should ask about all that is written.

    Paper:
        Fine-Grained Human Feedback Gives Better Rewards for Language Model Training, arXiv 2306.01693: the reward
        of its detoxification task. Assumed: a language model that is asked in words stands for the toxicity classifier.
    """
    sure = step_scores(rollouts, models, role=role, good=good, bad=bad, until=until, template=template)
    return [_drops([None if one is None else (1 - one) / 2 for one in row]) for row in sure]


def _drops(badness: Sequence[float | None]) -> SpanScores:
    found: SpanScores = []
    before = 0.0
    for now in badness:
        found.append(None if now is None else before - now)
        before = before if now is None else now
    return found


def units(parts: Sequence[str], closes: re.Pattern[str] | None) -> list[tuple[int, int]]:
    """First and last span of each unit: one span each, or as many as it takes until one ends as `closes` says."""
    found, first = [], 0
    for last, text in enumerate(parts):
        if closes is None or closes.search(text.rstrip()) or last == len(parts) - 1:
            found.append((first, last))
            first = last + 1
    return found


def _filled(template: str, rollout: Rollout, before: str, step: str, good: str, bad: str) -> str:
    asked = "\n".join(_text(message["content"]) for message in rollout.task.prompt if message["role"] == "user")
    values = {"question": asked, "before": before or "(nothing yet)", "step": step, "good": good, "bad": bad}
    return re.sub(r"\{(question|before|step|good|bad)\}", lambda match: values[match[1]], template)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", f"<{part.get('type')}>") for part in content)  # type: ignore[attr-defined]
