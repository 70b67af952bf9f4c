"""In which order a masked-diffusion model writes: how close to left to right.

Both read `info["decode_order"]`, the rank of each token in the order of writing, which rollout=diffusion leaves.
"""

from collections.abc import Callable, Sequence

from rlpost.errors import ConfigError, RewardError
from rlpost.types import Rollout


def local_ar(rollouts: Sequence[Rollout], *, k: int = 1) -> dict[str, float]:
    """Local AR-ness@k: how often k tokens in a row each follow the left neighbour that was written just before.

    Equation:
        share of the tokens j >= k with rank_i = rank_(i-1) + 1 for i = j - k + 1 .. j; mean over rows, then tasks
    Reduces to:
        1 for every k when a row is written from left to right.
    Edge cases:
        Rows of k tokens or fewer have no value and count nowhere. Tokens of one pass count from the left.
    Paper: DiffuCoder, arXiv:2506.20639. Assumed: the share is over the tokens that have k tokens to their left.
    """

    def row(rank: Sequence[int]) -> float | None:
        steps = [rank[i] == rank[i - 1] + 1 for i in range(1, len(rank))]
        found = [all(steps[j - k : j]) for j in range(k, len(steps) + 1)]
        return sum(found) / len(found) if found else None

    return {f"local_ar@{k}": _mean(rollouts, k, row)}


def global_ar(rollouts: Sequence[Rollout], *, k: int = 1) -> dict[str, float]:
    """Global AR-ness@k: how often the token written next is among the first k that are still masked.

    Equation:
        share of the tokens j with |{i < j: rank_i > rank_j}| < k; mean over rows, then tasks
    Reduces to:
        1 for every k when a row is written from left to right.
    Edge cases:
        Rows without tokens count nowhere. What was written behind a row's end does not matter.
    Paper: DiffuCoder, arXiv:2506.20639
    """

    def row(rank: Sequence[int]) -> float | None:
        before = [sum(other > own for other in rank[:j]) for j, own in enumerate(rank)]
        return sum(n < k for n in before) / len(rank) if rank else None

    return {f"global_ar@{k}": _mean(rollouts, k, row)}


def _mean(rollouts: Sequence[Rollout], k: int, row: Callable[[Sequence[int]], float | None]) -> float:
    if k < 1:
        raise ConfigError(f"a metric of the decoding order has k={k}; choose 1 or more")
    tasks: dict[str, list[float]] = {}
    for rollout in rollouts:
        value = row(rollout.info["decode_order"]) if "decode_order" in rollout.info else None
        if value is not None:
            tasks.setdefault(rollout.task.id, []).append(value)
    if not tasks:
        raise RewardError(
            f"no completion has a decoding order of more than {k} tokens; models that write left to right have none: "
            "pick rollout=diffusion, or leave the metric out"
        )
    return sum(sum(values) / len(values) for values in tasks.values()) / len(tasks)
