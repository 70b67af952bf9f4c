"""Credit that is smaller where the policy's answers to a prompt scatter."""

from collections.abc import Sequence
from typing import Literal

import torch

from rlpost.advantage.group import group_centred
from rlpost.errors import ConfigError
from rlpost.masked import group_count, group_max, group_sum, row_mean, together
from rlpost.types import NK, NT, Ids, K, Mask, N

Decay = Literal["reciprocal", "linear", "exponential", "focal"]


def semantic_entropy_scaled(
    rewards: NK,
    weights: K,
    group: Ids,
    reward_names: Sequence[str],
    old_logp: NT,
    mask: Mask,
    *,
    clusters: str = "answer_cluster",
    alpha: float = 0.0417,
    decay: Decay = "reciprocal",
) -> N:
    """Dr. GRPO's advantage, smaller for prompts whose answers differ in meaning (SEED-GRPO).

    Equation:
        l_i = mean_t old_logp_t where mask;  pi_i = exp(l_i) / sum_group exp(l_j)
        p(C) = sum of pi_i over the cluster C;  x = -sum_C p(C) log p(C) / log G, in 0 to 1
        advantage = (r - mean_group(r)) * f(x), with r = sum_k w_k r_k over the columns other than `clusters`
        f = 1 / (1 + alpha x) reciprocal, max(0, 1 - alpha x) linear, exp(-alpha x) exponential, (1 - x)^alpha focal

    Reduces to:
        group_centred of the other columns for alpha 0.

    Edge cases:
        A row alone in its group: f = 1, advantage 0. Rows of one group share f, so their order stays. The default
        alpha moves f by 4% at most; 0.5 to 2 makes it felt. A row without a cluster (NaN) is one of its own; a row to
        which no reward applies has advantage 0 and still counts in the entropy.

    Paper:
        SEED-GRPO: Semantic Entropy Enhanced GRPO for Uncertainty-Aware Policy Optimization, arXiv 2505.12346.
        Assumed: entropy, reciprocal decay and alpha (0.02 per nat at G = 8) as in the released code; the paper's text
        averages log p(C) over clusters, and names linear, exponential and focal without formulas.
    """
    names = list(reward_names)
    if clusters not in names or len(names) == 1:
        why = f"reads the reward {clusters!r}" if clusters not in names else "needs a reward besides the clusters"
        raise ConfigError(f"advantage semantic_entropy_scaled {why}; this run has {names}.")
    others = torch.tensor([name != clusters for name in names])
    credit = group_centred(rewards[:, others], weights[others], group)
    x = _scatter(rewards[:, names.index(clusters)], group, row_mean(old_logp, mask)).to(credit.dtype)
    if decay == "reciprocal":
        return credit / (1 + alpha * x)
    if decay == "linear":
        return credit * (1 - alpha * x).clamp(min=0)
    return credit * ((-alpha * x).exp() if decay == "exponential" else (1 - x) ** alpha)


def _scatter(cluster: N, group: Ids, logp: N) -> N:
    """The entropy of a group's clusters as a share of log G, for each of its rows."""
    alone = -1 - torch.arange(len(cluster))
    same = together(group, torch.where(torch.isnan(cluster), alone, torch.nan_to_num(cluster).long()))
    size = (logp - group_max(logp, group)).exp()
    share = size / group_sum(size, group)
    # sum_C p log p = sum_i pi_i log p(C_i); one cluster may round to slightly more than 1
    entropy = -group_sum(share * group_sum(share, same).clamp(max=1).log(), group)
    most = group_count(logp, group).log()
    return torch.where(most > 0, entropy / most.clamp(min=1e-12), 0.0).clamp(0, 1)
