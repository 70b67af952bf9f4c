"""Pairs for a game of two: a generator that is attacked, and the critic that attacks it."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rlpost.build.rows import groups, pair, score
from rlpost.errors import ConfigError
from rlpost.reward.adversary import question
from rlpost.reward.judge import fence_of
from rlpost.types import Rollout, Task


def generator_pairs(
    rollouts: Sequence[Rollout], rng: random.Random, *, name: str = "survives", pairs: int = 1
) -> list[Task]:
    """Completions that survive every attack before ones of the same prompt that do not (RLAC's generator).

    Equation:
        (y+, y-) with min_j R_j(y+) = 1 and min_j R_j(y-) < 1, up to `pairs` of them for a prompt, by chance

    Edge cases:
        A completion without a valid attack is in no pair, a prompt without both kinds gives none. `name` is the reward
        that holds min_j R_j. Equal texts, of which one was attacked better, are no pair.

    Paper:
        RLAC: Reinforcement Learning with Adversarial Critic, arXiv 2511.01758. Assumed: one pair of a prompt.
    """
    _at_least_one(pairs)
    found = []
    for group in groups(rollouts):
        scored = [(score(rollout, name), rollout) for rollout in group]
        good = [rollout for value, rollout in scored if value is not None and value >= 1]
        bad = [rollout for value, rollout in scored if value is not None and value < 1]
        every = [(one, other) for one in good for other in bad if one.text != other.text]
        found += [pair(one, other) for one, other in rng.sample(every, min(pairs, len(every)))]
    return found


def critic_pairs(
    rollouts: Sequence[Rollout], rng: random.Random, *, pairs: int = 1, template: str | None = None
) -> list[Task]:
    """Attacks that found a flaw before ones on the same completion that did not (RLAC's critic).

    Equation:
        (c+, c-) with c+ valid and R = 0, c- invalid or with R = 1, up to `pairs` of them for a completion, by chance

    Edge cases:
        The prompt is the critic's own about that completion; `template` as in the reward that asked it. A completion
        whose attacks all found a flaw, or none, gives no pair.

    Paper:
        RLAC, arXiv 2511.01758. Assumed: one pair of a completion.
    """
    _at_least_one(pairs)
    found = []
    for rollout in rollouts:
        attacks = _attacks(rollout)
        hits = list(dict.fromkeys(one["reply"] for one in attacks if one["valid"] and not one["passed"]))
        misses = list(dict.fromkeys(one["reply"] for one in attacks if not one["valid"] or one["passed"]))
        every = [(hit, miss) for hit in hits for miss in misses if hit != miss]
        asked = question(rollout, fence_of(rollout), template)
        for hit, miss in rng.sample(every, min(pairs, len(every))):
            columns = {**rollout.task.columns, "chosen": hit, "rejected": miss}
            prompt = ({"role": "user", "content": asked},)
            found.append(replace(rollout.task, prompt=prompt, media=(), demonstration=None, columns=columns))
    return found


def _attacks(rollout: Rollout) -> list[dict[str, Any]]:
    """What the reward of attacks wrote of a completion."""
    return json.loads(rollout.info["attacks"]) if "attacks" in rollout.info else []


def _at_least_one(pairs: int) -> None:
    if pairs < 1:
        raise ConfigError(f"build.pairs={pairs} makes no pair; choose 1 or more")
