"""Verdicts of a judge: asked, read by a strict parser, asked again where unreadable, counted where that stays so."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from rlpost import ledger
from rlpost.errors import ConfigError, RewardError
from rlpost.models.scorer.base import Chat, Scorer

Value = TypeVar("Value")


class Verdict(NamedTuple, Generic[Value]):
    """What a judge said of one sample: the parsed value, None where it cannot be read, and the last reply."""

    value: Value | None
    reply: str | None


def verdicts(
    judge: Scorer,
    prompts: Sequence[Chat],
    parse: Callable[[int, str], Value | None],
    samples: Sequence[str],
    *,
    name: str,
    max_tokens: int = 512,
    temperature: float = 0.0,
    retries: int = 1,
    retry_temperature: float = 0.7,
    max_unparsable: float = 0.1,
    seed: int = 0,
) -> list[Verdict[Value]]:
    """A verdict on each prompt. `parse(place, reply)` returns None for a reply that holds none; `samples` name them.

    `seed` is that of the first asking; each later one counts on from it.

    An unreadable reply is asked for `retries` times more, at `retry_temperature`, since at temperature 0 it would come
    again. What stays unreadable is counted in the ledger with its text, and is no verdict; a prompt without a reply
    counts too.

    Raises RewardError naming the sample where more than one and more than the share `max_unparsable` of all verdicts
    that this judge was ever asked for cannot be read.
    """
    if retries < 0 or not 0 <= max_unparsable <= 1:
        raise ConfigError(
            f"reward {name}: retries={retries} must be 0 or more, max_unparsable={max_unparsable:g} a share"
        )
    values: list[Value | None] = [None] * len(prompts)
    replies: list[str | None] = [None] * len(prompts)
    left = list(range(len(prompts)))
    for attempt in range(retries + 1):
        if not left:
            break
        warmth = temperature if attempt == 0 else max(temperature, retry_temperature)
        found = judge.judge([prompts[i] for i in left], max_tokens=max_tokens, temperature=warmth, seed=seed + attempt)
        for place, reply in zip(left, found, strict=True):
            if reply is not None:
                values[place], replies[place] = parse(place, reply), reply
        left = [place for place in left if values[place] is None]
    judge.tally.asked += len(prompts)
    judge.tally.unreadable += len(left)
    for place in left:
        reply = replies[place]
        said = "no reply" if reply is None else f"the judge replied {reply[:200]!r}"
        ledger.current().fail(f"{name}: unparsable verdict", f"{samples[place]}: {said}")
    bad, asked = judge.tally.unreadable, judge.tally.asked
    if left and bad > max(1, max_unparsable * asked):
        reply = replies[left[-1]]
        raise RewardError(
            f"reward '{name}': {bad} of {asked} verdicts cannot be read, more than the share max_unparsable="
            f"{max_unparsable:g}; the last is on {samples[left[-1]]}, where the judge "
            + ("gave no reply" if reply is None else f"replied {reply[:200]!r}")
            + "; use a judge that keeps to the form, or mend the template and the pattern"
        )
    return [Verdict(value, reply) for value, reply in zip(values, replies, strict=True)]
