"""arenarl: seeded elimination orders a group nearly as well as all pairs do, and better than coarse grades alone."""

import pytest
import torch

from rlpost.reward.tournament import double_elimination, played, round_robin, single_elimination

G, GROUPS = 16, 60


def order(values):
    """Average ranks."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return (values[:, None] > values[None, :]).sum(1) + ((values[:, None] == values[None, :]).sum(1) - 1) / 2


def spearman(a, b):
    return torch.corrcoef(torch.stack([order(a), order(b)]))[0, 1].item()


def correlations(seed):
    """Mean rank correlation with latent quality, judge noise 0.5: one loss, two losses, all pairs, 3 grades."""
    rng = torch.Generator().manual_seed(seed)
    quality = torch.randn(GROUPS, G, generator=rng)
    asked = []

    def judged(matches):
        asked.append(len(matches))
        noise = 0.5 * torch.randn(len(matches), 2, generator=rng)
        return [
            (float(quality[k, i] + a), float(quality[k, j] + b))
            for (k, i, j), (a, b) in zip(matches, noise, strict=True)
        ]

    knocked = played([single_elimination(G) for _ in range(GROUPS)], judged)
    assert sum(asked) == 2 * (G - 1) * GROUPS
    asked.clear()
    twice = played([double_elimination(G) for _ in range(GROUPS)], judged)
    assert sum(asked) == 2 * (G - 1) * GROUPS
    everyone = played([round_robin(G) for _ in range(GROUPS)], judged)
    heard = quality + 0.5 * torch.randn(GROUPS, G, generator=rng)
    coarse = torch.bucketize(heard, torch.tensor([-1.0, 1.0])).double()
    return [
        sum(spearman(found[k], quality[k]) for k in range(GROUPS)) / GROUPS
        for found in (knocked, twice, everyone, coarse)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation(seed):
    knocked, twice, everyone, coarse = correlations(seed)
    assert knocked > everyone - 0.1, (knocked, everyone)
    assert knocked > coarse + 0.02, (knocked, coarse)
    assert knocked > twice > coarse + 0.02, "without seeds the same number of pairs orders less well"
