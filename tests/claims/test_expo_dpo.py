"""expo_dpo: where every attempt is wrong there are pairs all the same, and they lead to the answer."""

import functools

import pytest
import torch

from rlpost.build.explained import explained_pairs
from rlpost.build.extremes import best_and_worst
from rlpost.preference.direct import dpo
from rlpost.stack import Reward, RewardStack
from tests import tabular
from tests.claims import test_expo_self_explanation as expo
from tests.claims.test_expo_self_explanation import ANSWER, GOOD, right

PROMPTS, SYMBOLS = 32, expo.SYMBOLS + tabular.END
LAST = 2 + len(expo.PATHS)  # the row that ends a text


def state(question, text):
    """An attempt is a path and an answer; an explanation a path, behind which its conclusion is written."""
    return LAST if len(text) > 1 or (text and "correct answer is" in question) else expo.state(question, text)


def start():
    table = torch.full((LAST + 1, len(SYMBOLS)), -20.0)
    table[:LAST, :-1] = expo.start()
    table[LAST, -1] = 0.0
    return table


def logp(policy, texts):
    """(B,2) log-probability of path and answer, and which of them a text has."""
    table, width = torch.log_softmax(policy.logits, -1), 2
    rows = [[(state("q", text[:t]), SYMBOLS.index(text[t])) for t in range(len(text))] for text in texts]
    mask = torch.tensor([[t < len(row) for t in range(width)] for row in rows])
    places = torch.tensor([[*row, *[(0, 0)] * (width - len(row))] for row in rows])
    return torch.where(mask, table[places[..., 0], places[..., 1]], 0.0), mask


def round_of(policy, seed):
    """What a stage `sample` with rollout=expo finds."""
    collect, _, sampling, n = tabular.collected(
        "expo_self_explanation", "rollout.max_tokens=3", "rollout.conclusion='{answer}'", "rollout.num_generations=4"
    )
    ctx = tabular.context(
        policy, RewardStack({"right": Reward(lambda rows: [right(r) for r in rows])}), sampling, n, seed=seed
    )
    rows = collect([tabular.task("q", ANSWER)] * PROMPTS, ctx)
    ctx.score(rows)
    for row in rows:
        row.info |= {"reward": row.scores["right"], "length": len(row.tokens)}
    return rows


def reached(seed, rounds=8):
    """The probability of the right answer before, and after each round of 20 steps of DPO."""
    policy = tabular.Tabular(SYMBOLS, start(), state, seed)
    optimizer, found = torch.optim.SGD([policy.logits], lr=4.0), []
    for k in range(rounds):
        rows = round_of(policy, 100 * seed + k)
        assert k or best_and_worst(rows) == [], "no attempt is better than another"
        texts = [[pair.columns[side] for pair in explained_pairs(rows)] for side in ("chosen", "rejected")]
        found.append(policy.probability("q", GOOD + ANSWER))
        if not texts[0]:
            break  # all attempts are right
        with torch.no_grad():
            (before, mask), (other, masked) = (logp(policy, one) for one in texts)
        for _ in range(20):
            now = [logp(policy, one)[0] for one in texts]
            optimizer.zero_grad()
            functools.partial(dpo, beta=0.1)(*now, mask, masked, before, other).value.mean().backward()
            optimizer.step()
    return [*found, policy.probability("q", GOOD + ANSWER)]


@pytest.mark.parametrize("seed", range(3))
def test_answers_out_of_reach_are_learnt(seed):
    found = reached(seed)
    assert found[0] == pytest.approx(1e-4, rel=0.01) and found[-1] > 0.3, found
