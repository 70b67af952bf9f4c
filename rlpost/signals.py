"""Signal accounting: what share of a step's groups and tokens can teach anything, and what to turn where little can."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rlpost.stack import row_score
from rlpost.step import Credit
from rlpost.types import Rollout

MANY = 0.5  # share from which a finding is worth a sentence
SOME = 0.2


def shares(
    rollouts: Sequence[Rollout], credit: Credit, *, version: int, scores: Sequence[str] = (), threshold: float = 1.0
) -> dict[str, float]:
    """Shares of groups and of generated tokens of one step, by what becomes of them.

    A completion is right where the first applicable of `scores` reaches `threshold`, as in an evaluation;
    `groups_all_right` and `groups_all_wrong` are missing where none applies. Shares of tokens are of all completions of
    the policy: `tokens_masked` train in no row, their own or one that a rollout made of them (an edge of a tree, a
    group under an easier prompt), `tokens_stale` come from older weights than step `version`, `tokens_truncated` stand
    in completions that ended at the length limit, and `tokens_with_gradient` (also counted as `gradient_tokens`) train
    with an advantage other than 0.
    """
    own = [r for r in rollouts if r.role == "policy"]
    lengths = [len(r.tokens) for r in own]
    tokens = sum(lengths) or 1
    moving = (
        int((credit.scored.mask & credit.scored.advantage.ne(0)).sum()) if credit.scored.advantage is not None else 0
    )
    trained = sum(sum(_by_policy(r)) for r in rollouts)
    return {
        **_groups(own, scores, threshold),
        "signal/tokens_masked": max(0.0, 1 - trained / tokens),
        "signal/tokens_stale": sum(n for r, n in zip(own, lengths, strict=True) if r.version < version) / tokens,
        "signal/tokens_truncated": sum(n for r, n in zip(own, lengths, strict=True) if r.stop == "length") / tokens,
        "signal/tokens_with_gradient": moving / tokens,
        "gradient_tokens": float(moving),
    }


def _by_policy(rollout: Rollout) -> list[bool]:
    """Which tokens train and are the policy's own."""
    if not rollout.source:
        return rollout.trains
    return [trains and who == "policy" for trains, who in zip(rollout.trains, rollout.source, strict=True)]


def _groups(own: Sequence[Rollout], scores: Sequence[str], threshold: float) -> dict[str, float]:
    right: dict[str, list[bool]] = {}
    for rollout in own:
        found = (row_score(rollout.scores.get(name)) for name in scores)
        score = next((one for one in found if one is not None), None)
        if score is not None:
            right.setdefault(rollout.group, []).append(score >= threshold)
    if not right:
        return {}
    return {
        "signal/groups_all_right": fmean(all(rows) for rows in right.values()),
        "signal/groups_all_wrong": fmean(not any(rows) for rows in right.values()),
    }


class Finding(NamedTuple):
    """What the numbers say, and the keys that change it."""

    sentence: str
    knobs: tuple[str, ...]


def diagnose(records: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Findings from the records of `metrics.jsonl`, judged on the last quarter of the training steps."""
    steps = [r for r in records if r.get("phase") == "train" and r.get("step") is not None]
    last = steps[-max(1, len(steps) // 4) :]

    def late(name: str) -> float | None:
        known = [float(r[name]) for r in last if r.get(name) is not None]
        return fmean(known) if known else None

    def early(name: str) -> float | None:
        known = [float(r[name]) for r in steps[: max(1, len(steps) // 4)] if r.get(name) is not None]
        return fmean(known) if known else None

    return [*_equal(late), *_length(late), *_moves(late), *_spread(early, late)]


Late = Callable[[str], float | None]


def _equal(late: Late) -> list[Finding]:
    """Groups whose completions all got the same."""
    wrong, right, silent = (
        late(name) or 0.0 for name in ("signal/groups_all_wrong", "signal/groups_all_right", "groups_without_signal")
    )
    if wrong >= MANY:
        return [
            Finding(
                f"{wrong:.0%} of the groups are all wrong: easier tasks, more completions per prompt, or a reward with "
                "partial credit would give them a difference to learn from",
                ("dataset", "rollout.num_generations", "reward", "curriculum"),
            )
        ]
    if right >= MANY:
        return [
            Finding(
                f"{right:.0%} of the groups are all right: the model has learnt these tasks; harder ones, or a "
                "curriculum that leaves out what is solved, would use the time",
                ("dataset", "curriculum", "rollout.max_draws"),
            )
        ]
    if silent >= MANY:
        return [
            Finding(
                f"{silent:.0%} of the groups have no signal, because their completions are credited alike: sample with "
                "more variety, or let the rewards tell them apart",
                ("rollout.temperature", "rollout.num_generations", "reward", "rollout.max_draws"),
            )
        ]
    return []


def _length(late: Late) -> list[Finding]:
    cut, masked = late("signal/tokens_truncated") or 0.0, late("signal/tokens_masked") or 0.0
    found = []
    if cut >= SOME:
        found.append(
            Finding(
                f"{cut:.0%} of the tokens stand in completions that were cut at the limit, whose answer may be "
                "missing: raise the limit, or reward brevity",
                ("rollout.max_tokens", "shaping"),
            )
        )
    if masked >= MANY:
        found.append(
            Finding(f"{masked:.0%} of the generated tokens do not train: they were masked", ("rollout", "token_weight"))
        )
    return found


def _moves(late: Late) -> list[Finding]:
    """How far the policy is from the one that sampled, and from the reference."""
    clipped = sum(late(name) or 0.0 for name in ("clip_low", "clip_high"))
    stale, kl = late("signal/tokens_stale") or 0.0, late("kl")
    found = []
    if clipped >= SOME:
        found.append(
            Finding(
                f"{clipped:.0%} of the tokens are clipped: the policy moves far from the one that sampled; take "
                "smaller or fewer steps on the same completions",
                ("trainer.learning_rate", "trainer.num_iterations", "trainer.steps_per_generation"),
            )
        )
    if stale >= MANY:
        found.append(
            Finding(
                f"{stale:.0%} of the tokens come from older weights than the step's", ("trainer.steps_per_generation",)
            )
        )
    if kl is not None and kl >= 1.0:
        found.append(
            Finding(
                f"the policy is {kl:.2f} nats per token away from the reference: a stronger regularizer or a lower "
                "learning rate keeps it nearer",
                ("regularizer", "trainer.learning_rate"),
            )
        )
    return found


def _spread(early: Late, late: Late) -> list[Finding]:
    first, now = early("entropy"), late("entropy")
    if first is None or now is None or first <= 0 or now >= SOME * first:
        return []
    return [
        Finding(
            f"the entropy fell from {first:.2f} to {now:.2f} nats per token: the completions of a group become the "
            "same; a higher upper clip, an entropy bonus or a higher temperature keeps them apart",
            ("objective.clip_high", "regularizer", "rollout.temperature"),
        )
    ]
