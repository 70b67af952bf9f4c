"""vl_rethinker: steps stay full of signal where most groups have none, and the policy learns to think twice."""

import random

import pytest
import torch
from torch.distributions import Categorical

from rlpost import step
from rlpost.config import build, compose
from rlpost.trainers.replay import Pool, Replay
from tests import tabular, toy

# Every step has ten groups of eight answers; nine of them are of questions that no answer solves.
SOLVABLE, GROUPS, N, ARMS = 4, 10, 8, 10


def stream(seed: int, replayed: bool, *, steps: int = 40, lr: float = 20.0) -> tuple[float, float]:
    """The share of trained rows with an advantage, and the mean probability of the right arm at the end."""
    method = toy.recipe("vl_rethinker", "model=tiny", "regularizer=[]")
    replay = Replay(build(compose("grpo", ["recipe=vl_rethinker"]).tree["replay"])) if replayed else None
    torch.manual_seed(seed)
    rng, logits = random.Random(seed), torch.zeros(SOLVABLE + GROUPS, ARMS, requires_grad=True)
    optimizer, loud, trained = torch.optim.SGD([logits], lr=lr), 0, 0
    for number in range(steps):
        picked = torch.tensor([number % SOLVABLE, *range(SOLVABLE, SOLVABLE + GROUPS - 1)]).repeat_interleave(N)
        tokens = Categorical(logits=logits.detach()[picked]).sample()[:, None]
        rewards = ((tokens == 0) & (picked < SOLVABLE)[:, None]).float()
        old = toy.logp_of(logits.detach(), picked, tokens)
        mask = torch.ones_like(tokens, dtype=torch.bool)
        credit = step.score(toy.scored(rewards, picked, mask, old, tokens=tokens), method)
        pool = Pool(credit.scored, [0] * len(picked), picked.tolist())
        if replay:
            pool, _ = replay.mix(pool, number, rng)
        if not pool.rollouts:
            continue
        if number:
            loud += int(pool.scored.advantage.ne(0).any(-1).sum())
            trained += len(pool.rollouts)
        batch = toy.batch(pool.scored, toy.logp_of(logits, torch.tensor(pool.rollouts), pool.scored.tokens))
        optimizer.zero_grad()
        step.loss(batch, method, step.counts(pool.scored))[0].backward()
        optimizer.step()
    return loud / trained, float(logits.detach().softmax(-1)[:SOLVABLE, 0].mean())


@pytest.mark.parametrize("seed", range(3))
def test_every_replayed_step_is_all_signal_and_learns_in_fewer_updates(seed):
    """Without replay at most one group of ten has an advantage."""
    (full, reached), (thin, alone) = stream(seed, True), stream(seed, False)
    assert full == 1.0 and thin <= 0.1
    assert reached > alone + 0.2


TRIGGER = ["rollout.plain=[W]", "rollout.if_right=W", "rollout.if_wrong=W", "rollout.cut_share=0.0"]
KNOBS = ["rollout.max_tokens=8", "rollout.room=4", "rollout.num_generations=8", "replay=null", "dataset=arithmetic"]


def state(question: str, text: str) -> int:
    """The start; after a first answer; after the waiting word; after the second answer."""
    return 0 if not text else 1 + "aWb".index(text[-1])


def waits(seed: int, *overrides: str) -> float:
    """How likely the policy thinks twice after its first answer, 0.001 at the start; only the second one is right."""
    table = torch.tensor(
        [[1.0, 0, 0, 0], [0, 0.001, 0, 0.999], [0.5, 0, 0.5, 0], [0, 0, 0, 1.0]]  # a W b $
    )
    policy = tabular.Tabular("aWb$", (table + 1e-9).log(), state, seed)
    tasks = [tabular.task(f"q{i}", "b") for i in range(2)]
    right = lambda rollout: float(rollout.text.endswith("b"))  # noqa: E731
    history = tabular.train(
        policy, tasks, "vl_rethinker", *KNOBS, *TRIGGER, *overrides, right=right, steps=15, lr=10.0, seed=seed
    )
    assert any(r.role == "rethought" for r in history[0]) == (not overrides)
    return policy.probability("q0", "W", after="a")


@pytest.mark.parametrize("seed", range(3))
def test_the_waiting_word_becomes_common_only_where_it_was_forced(seed):
    assert waits(seed) > 0.3 and waits(seed, "rollout.chance=0.0") < 0.01
