"""The overlong punishment that knows how hard a prompt is."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.shaping.length import soft_overlong
from rlpost.shaping.solve_rate import difficulty_overlong

NAN = float("nan")


def shaped(rewards, group, length, *, weights=(1.0,), names=("correct",), role=None, stop=None, **knobs):
    rewards = torch.tensor(rewards)
    role, stop = role or ["policy"] * len(rewards), stop or ["eos"] * len(rewards)
    return difficulty_overlong(
        rewards, torch.tensor(weights), names, torch.tensor(group), role, torch.tensor(length), stop, max_tokens=100,
        **knobs,
    )  # fmt: skip


def test_hard_prompts_are_punished_less():
    rewards, group = [[1.0], [0.0], [1.0], [1.0], [1.0], [0.0]], [7, 7, 2, 7, 2, 7]
    # the stretch is 80 to 100. Group 7 solves 2 of 4, group 2 all: 90 is half way, 85 a quarter
    found = shaped(rewards, group, [90, 90, 90, 85, 70, 85], gamma=2.0, failure_scale=0.6)
    wanted = [1 - 0.25 * 0.5, -0.6 * 0.5, 1 - 0.5, 1 - 0.25 * 0.25, 1, -0.6 * 0.25]
    assert found[:, 0].tolist() == pytest.approx(wanted)


def test_the_limit_is_punished_in_full():
    rewards, group = [[1.0], [0.0], [1.0], [0.0]], [0, 0, 1, 1]
    found = shaped(
        rewards, group, [100, 100, 100, 99], stop=["length", "tool", "eos", "length"], failure_scale=0.5, gamma=3.0
    )
    # cut off: all; cut off: all; finished at the limit: .5^3; a shorter limit than max_tokens: failure_scale * 19/20
    assert found[:, 0].tolist() == pytest.approx([0, -1, 1 - 0.125, -0.5 * 0.95])


def test_it_reduces_to_soft_overlong():
    rewards = torch.tensor([[1.0, 0.3], [0.2, NAN], [1.0, 1.0]])
    weights, length, group = torch.tensor([1.0, 0.5]), torch.tensor([83, 97, 120]), torch.tensor([0, 0, 1])
    found = difficulty_overlong(
        rewards, weights, ("a", "b"), group, ("policy",) * 3, length, ("eos",) * 3, max_tokens=100, gamma=0.0,
        cache_fraction=0.3,
    )  # fmt: skip
    wanted = soft_overlong(rewards, weights, length, max_tokens=100, cache_fraction=0.3)
    torch.testing.assert_close(found, wanted, equal_nan=True)


def test_success_is_the_total_or_a_named_column_of_the_policys_rows():
    rewards, names, weights = [[1.0, 0.0], [0.0, 1.0], [NAN, 1.0], [1.0, 1.0]], ("correct", "format"), (1.0, 1.0)
    role = ["policy", "policy", "policy", "contrast"]
    columns = shaped(rewards, [0] * 4, [90] * 4, names=names, weights=weights, role=role, reward="correct")
    # one of two scored policy rows is correct: rate .5 for rows 0 and 3, all for 1 and 2; the total falls by it
    fall = torch.nansum(torch.tensor(rewards) - columns, 1)
    assert fall.tolist() == pytest.approx([0.25, 0.5, 0.5, 0.25])
    total = shaped(rewards, [0] * 4, [90] * 4, names=names, weights=weights, role=role, threshold=2.0)
    # only the contrast row has a total of 2, so the policy's rate is 0
    assert torch.nansum(torch.tensor(rewards) - total, 1).tolist() == pytest.approx([0.5, 0.5, 0.5, 0])
    assert shaped([[NAN], [1.0]], [0, 0], [90, 90])[0].isnan().all()


def test_an_unknown_reward_is_a_sentence():
    with pytest.raises(ConfigError, match=r"'answer'; this run has \['correct'\]"):
        shaped([[1.0]], [0], [9], reward="answer")
