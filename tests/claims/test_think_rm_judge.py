"""think_rm_judge: half a mark for the right side teaches a judge that never hits the exact grade."""

import pytest
import torch

from rlpost.reward.comparison import FENCE, LEVELS, comparison
from tests import toy
from tests.reward.rows import rollout

GOLD, RARE = 2, 6.0  # its verdict is the second of six, and e^6 times less likely than each of the others at first


def side(seed, same_sign):
    """The probability of a verdict on the right side, and of the exact one, after 40 steps of 2 groups of 8."""
    logits = torch.zeros(2, 6)
    logits[:, 1] = -RARE
    logits[:, 3:] += 1.0

    def reward(_, tokens):
        said = [rollout(f"VERDICT c: {v + 1}", str(GOLD), **{FENCE: "c", LEVELS: 6}) for v in tokens[:, 0].tolist()]
        return torch.tensor(comparison(said, same_sign=same_sign))[:, None]

    toy.train(logits, reward, toy.recipe("think_rm_judge"), steps=40, lr=1.0, seed=seed)
    p = logits.detach().softmax(-1).mean(0)
    return float(p[:3].sum()), float(p[1])


@pytest.mark.parametrize("seed", range(3))
def test_a_side_is_learnt_where_exact_verdicts_are_never_seen(seed):
    (graded, _), (exact, hit) = side(seed, 0.5), side(seed, 0.0)
    assert graded > 0.9 and exact < 0.3 and hit < 0.01, (graded, exact, hit)
