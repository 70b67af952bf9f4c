"""Signal accounting: shares from counts made by hand, and sentences that name keys which exist."""

from dataclasses import replace

import pytest
import torch

from rlpost.config import compose
from rlpost.signals import MANY, SOME, diagnose, shares
from rlpost.step import Credit
from tests.reward.rows import rollout
from tests.toy import scored


def made(group, text, score, *, stop="eos", trains=None, version=3, role="policy"):
    row = replace(rollout(text, group=group), stop=stop, version=version, role=role)
    row.scores["correct"] = score
    return replace(row, trains=trains) if trains else row


ROWS = [
    made("right", "ab", 1.0),
    made("right", "abcd", 1.0, stop="length"),  # 4 of 16 tokens truncated
    made("wrong", "ab", 0.0, trains=[True, False]),  # 1 token masked
    made("wrong", "abc", 0.0, version=2),  # 3 stale
    made("mixed", "a", 1.0),
    made("mixed", "abcd", 0.0),
    made("mixed", "abcdefgh", 1.0, role="contrast", trains=[False] * 8),  # informs only: neither groups nor tokens
]


def credit(advantage):
    lengths = [len(r.tokens) for r in ROWS[:6]]
    mask = torch.arange(4)[None] < torch.tensor(lengths)[:, None]
    mask[2, 1] = False
    values = torch.tensor(advantage)[:, None] * mask
    table = scored(torch.zeros(6, 1), torch.arange(6), mask, torch.zeros(6, 4), advantage=values)
    return Credit(table, torch.ones(6, dtype=torch.bool), torch.zeros(6, 1))


def test_shares_are_of_the_policys_groups_and_tokens():
    found = shares(ROWS, credit([0.0, 0.0, 0.0, 0.0, 1.0, -1.0]), version=3, scores=["other", "correct"])
    assert found["signal/groups_all_right"] == found["signal/groups_all_wrong"] == pytest.approx(1 / 3)
    assert found["signal/tokens_truncated"] == pytest.approx(4 / 16)
    assert found["signal/tokens_masked"] == pytest.approx(1 / 16)
    assert found["signal/tokens_stale"] == pytest.approx(3 / 16)
    assert found["signal/tokens_with_gradient"] == pytest.approx(5 / 16) and found["gradient_tokens"] == 5
    assert shares(ROWS, credit([1.0] * 6), version=3)["gradient_tokens"] == 15  # all but the masked one
    pieces = [replace(row, trains=[False] * len(row.tokens)) for row in ROWS]
    pieces += [replace(made("edge", "abcd", 1.0, role="edge"), source=["policy"] * 3 + ["expert"]) for _ in range(2)]
    assert shares(pieces, credit([1.0] * 6), version=3)["signal/tokens_masked"] == pytest.approx(10 / 16)
    assert shares(pieces + pieces[-1:] * 9, credit([1.0] * 6), version=3)["signal/tokens_masked"] == 0.0
    assert "signal/groups_all_right" not in shares(ROWS, credit([1.0] * 6), version=3, scores=["other"])
    partial = shares(ROWS, credit([1.0] * 6), version=3, scores=["correct"], threshold=2.0)
    assert partial["signal/groups_all_wrong"] == 1.0


def records(first=None, last=None):
    """Eight training steps: `first` in the first six, `last` in the last quarter."""
    head = [{"phase": "train", "step": i, **(first or {})} for i in range(1, 7)]
    tail = [{"phase": "train", "step": i, **(last or {})} for i in (7, 8)]
    return [*head, {"phase": "eval", "step": 8, "signal/groups_all_wrong": 1.0}, *tail]


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ({"signal/groups_all_wrong": MANY, "groups_without_signal": 0.9}, "50% of the groups are all wrong"),
        ({"signal/groups_all_right": 0.75}, "75% of the groups are all right"),
        ({"groups_without_signal": 0.6, "signal/groups_all_wrong": 0.4}, "60% of the groups have no signal"),
        ({"signal/tokens_truncated": SOME}, "20% of the tokens stand in completions that were cut"),
        ({"signal/tokens_masked": 0.8}, "80% of the generated tokens do not train"),
        ({"clip_low": 0.15, "clip_high": 0.1}, "25% of the tokens are clipped"),
        ({"signal/tokens_stale": 0.5}, "50% of the tokens come from older weights"),
        ({"kl": 1.5}, "1.50 nats per token away from the reference"),
        ({"entropy": 0.1}, "the entropy fell from 2.00 to 0.10 nats"),
    ],
)
def test_each_finding_has_its_cause_alone(last, says):
    found = diagnose(records({"entropy": 2.0}, {"entropy": 2.0, **last}))
    assert len(found) == 1 and says in found[0].sentence
    tree = compose("grpo", []).tree
    for knob in found[0].knobs:
        node = tree
        for part in knob.split("."):
            known = part in node or knob in ("trainer.steps_per_generation", "rollout.max_draws")
            assert known, f"{knob} is no key of rlpost grpo"
            node = node.get(part) if isinstance(node, dict) else {}


def test_a_healthy_run_and_no_run_have_nothing_to_say():
    well = {"signal/groups_all_wrong": 0.49, "signal/groups_all_right": 0.3, "groups_without_signal": 0.49}
    rest = {"signal/tokens_truncated": 0.19, "clip_high": 0.19, "kl": 0.9, "entropy": 0.41}
    assert diagnose(records({"entropy": 2.0}, {**well, **rest})) == []
    assert diagnose([]) == []
    assert diagnose(records({"signal/groups_all_wrong": 1.0}, {"signal/groups_all_wrong": 0.0})) == []
