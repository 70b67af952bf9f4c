"""Spans: the pieces of a completion that are scored on their own, such as its steps or its sentences.

`Rollout.span` numbers the piece of every token from 0, in the order of the text; -1 is in none. A completion in which
nobody marked pieces is one span. Rows of one table have their spans in (N,S), padded with NaN behind their own.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlpost.errors import RewardError
from rlpost.types import NK, NT, K, Mask, Rollout

NSK = Float[Tensor, "N S K"]
NS = Float[Tensor, "N S"]
Span = Int[Tensor, "N T"]


def numbers(rollout: Rollout) -> list[int]:
    """The span of each token; 0 for all of them where none is marked."""
    return list(rollout.span) if max(rollout.span, default=-1) >= 0 else [0] * len(rollout.tokens)


def count(rollout: Rollout) -> int:
    """How many spans a rollout has, and so how many scores a reward of spans gives it."""
    return 1 + max(numbers(rollout), default=-1)


def texts(rollout: Rollout) -> list[str]:
    """The text of each span, as the rollout that marked them wrote it to `info["spans"]`.

    Raises RewardError where spans are marked without their texts.
    """
    if max(rollout.span, default=-1) < 0:
        return [rollout.text] * count(rollout)
    found = rollout.info.get("spans")
    if not isinstance(found, list) or len(found) != count(rollout):
        raise RewardError(
            f"task {rollout.task.id}: the rollout marks {count(rollout)} spans without their texts, which a reward of "
            "spans reads; write them to rollout.info['spans'], as rollout=steps does"
        )
    return found


def span_mean(span_rewards: NSK) -> NK:
    """The mean score of a row's spans per column: what a reward of spans says of the row. NaN where no span has one."""
    there = ~torch.isnan(span_rewards)
    total = torch.where(there, span_rewards, 0.0).sum(1)
    return torch.where(there.any(1), total / there.sum(1).clamp(min=1), torch.nan)


def row_rewards(rewards: NK, span_rewards: NSK) -> NK:
    """What a row earned as a whole: the columns of `rewards` less the means of spans in them.

    A column of spans is NaN, unless shaping changed it in some row: then it has what shaping added.
    """
    means = span_mean(span_rewards)
    there = ~torch.isnan(means)
    added = torch.where(there, rewards - means, 0.0)
    unchanged = (added == 0).all(0)
    return torch.where(there, torch.where(unchanged, torch.nan, added), rewards)


def sizes(span: Span, mask: Mask, spans: int) -> NS:
    """How many tokens that train each of the first `spans` spans has."""
    inside = mask & (span >= 0) & (span < spans)
    made = torch.zeros(len(span), spans)
    return made.scatter_add(1, torch.where(inside, span, 0), inside.float()) if spans else made


def spread(values: NS, span: Span, mask: Mask) -> NT:
    """The value of its own span for every token that trains; 0 for the others and where a token is in no span."""
    known = mask & (span >= 0) & (span < values.shape[1])
    if not values.shape[1]:
        return values.new_zeros(span.shape)
    return torch.where(known, values.gather(1, torch.where(known, span, 0)), 0.0)


def last_tokens(span: Span, mask: Mask) -> Mask:
    """True at the last token that trains of each span, and nowhere else; a span may stand in several pieces."""
    n, width = span.shape
    inside, place = mask & (span >= 0), torch.arange(width).expand(n, width)
    last = torch.full((n, int(span.max()) + 1 if inside.any() else 0), -1)
    if not last.shape[1]:
        return torch.zeros_like(mask)
    ids = torch.where(inside, span, 0)
    last = last.scatter_reduce(1, ids, torch.where(inside, place, -1), "amax")
    return inside & (last.gather(1, ids) == place)


def suffix_sum(values: Float[Tensor, "N L"]) -> Float[Tensor, "N L"]:
    """The sum from each place to the end of its row, itself included."""
    return values.flip(1).cumsum(1).flip(1)


def table(scores: Sequence[Sequence[object]], names: int) -> NSK:
    """Scores (N,S,K) from one entry per row and column: a list is one score per span, anything else is none."""
    lists = [[one if isinstance(one, list) else [] for one in row] for row in scores]
    width = max((len(one) for row in lists for one in row), default=0)
    made = torch.full((len(lists), width, names), torch.nan)
    for i, row in enumerate(lists):
        for k, one in enumerate(row):
            made[i, : len(one), k] = torch.tensor([torch.nan if x is None else x for x in one])
    return made


def weighted_spans(span_rewards: NSK, weights: K) -> NS:
    """sum_k w_k r_k over the rewards that apply to a span; NaN for a span to which none applies."""
    total = torch.nansum(span_rewards * weights, dim=-1)
    return torch.where(torch.isnan(span_rewards).all(-1), torch.nan, total)
