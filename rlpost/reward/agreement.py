"""A reward without labels: how many completions of the group give the same answer."""

import math
from collections import Counter
from collections.abc import Sequence

from rlpost.errors import ConfigError
from rlpost.lift import per_group
from rlpost.reward.cluster import Extract, Kind, answer_id
from rlpost.types import Rollout


@per_group
def cluster_probability(
    rollouts: Sequence[Rollout],
    *,
    low: float = -math.inf,
    high: float = math.inf,
    kind: Kind = "number",
    extract: Extract = "final",
    max_numbers: int = 8,
) -> list[float]:
    """The share of the group that gives a completion's answer: what it maximises is low semantic entropy (EMPO).

    Equation:
        p(c) = |c| / G over the clusters c of equal final answers;  H = -sum_c p(c) log p(c) nats
        r_i = p(c_i) where the completion has an answer, H < log G and low < H < high; otherwise 0
    Reduces to:
        EMPO without a filter at the infinite `low` and `high`.
    Edge cases:
        All answers different, and a group of one: 0. A completion without a final answer is a cluster of its own and
        earns 0. The gold answer is not read: `kind`, `extract` and `max_numbers` are those of reward `answer_cluster`.
        A group outside `low` to `high` earns 0 as a whole, so that a group-relative advantage skips it; `low` 0 skips
        what is already unanimous (its advantage is 0 anyway).

    Paper:
        Right Question is Already Half the Answer: Fully Unsupervised LLM Reasoning Incentivization, arXiv 2504.05812.
        Assumed: completions without an answer are no common cluster.
    """
    if not low < high:
        raise ConfigError(f"reward cluster_probability: low={low:g} must be below high={high:g}")
    answers = [answer_id(rollout, kind=kind, extract=extract, max_numbers=max_numbers) for rollout in rollouts]
    g, sizes = len(rollouts), Counter(answers)
    none = sizes.pop(None, 0)
    shares = [*(size / g for size in sizes.values()), *[1 / g] * none]
    entropy = -sum(p * math.log(p) for p in shares)
    # rounding must not make a group of different answers a group that agrees a little
    if not (entropy < math.log(g) - 1e-9 and low < entropy < high):
        return [0.0] * g
    return [0.0 if answer is None else sizes[answer] / g for answer in answers]
