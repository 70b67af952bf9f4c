"""A knob, a coefficient or a reward's weight may be a schedule: what the step uses is the number of now."""

import pytest
import torch

from rlpost import assemble, step
from rlpost.config import compose
from rlpost.types import Counts, TokenBatch

LINEAR = "{_target_: rlpost.schedule.linear, start: 0.0, end: 1.0}"


def batch() -> TokenBatch:
    logp = torch.tensor([[-0.5, -1.5], [-2.0, -0.7]])
    return TokenBatch(
        tokens=torch.zeros(2, 2, dtype=torch.long),
        mask=torch.ones(2, 2, dtype=torch.bool),
        logp=logp,
        old_logp=logp - torch.tensor([[0.1, 0.6], [0.9, -0.2]]),
        advantage=torch.tensor([[1.0, 1.0], [0.5, 0.5]]),
        group=torch.zeros(2, dtype=torch.long),
        ref_logp=logp + 0.4,
    )


@pytest.mark.parametrize("progress", [0.0, 0.25, 1.0])
def test_a_coefficient_follows_its_schedule(progress):
    cfg = compose("grpo", ["regularizer=[kl_k3]", f"regularizer.kl_k3.coef={LINEAR}"])
    counts = Counts(rows=2, tokens=4, groups=1)
    _, metrics = step.loss(batch(), assemble.method(cfg.tree), counts, progress=progress)
    k3 = float(torch.tensor(0.4).exp() - 0.4 - 1)
    assert float(metrics["kl_k3/loss"].total) == pytest.approx(progress * k3, abs=1e-6)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_a_knob_follows_its_schedule(progress):
    scheduled = compose("grpo", [f"objective.clip_high={LINEAR}"])
    fixed = compose("grpo", [f"objective.clip_high={progress}"])
    counts = Counts(rows=2, tokens=4, groups=1)
    now, _ = step.loss(batch(), assemble.method(scheduled.tree), counts, progress=progress)
    expected, _ = step.loss(batch(), assemble.method(fixed.tree), counts)
    assert float(now) == pytest.approx(float(expected), abs=1e-7)
    other, _ = step.loss(batch(), assemble.method(scheduled.tree), counts, progress=1.0)
    assert float(other) != pytest.approx(float(now), abs=1e-4)


def test_a_reward_weight_follows_its_schedule():
    cfg = compose("grpo", [f"reward.correct.weight={LINEAR}"])
    stack = assemble.reward_stack(cfg.tree)
    assert [float(stack.at(0, p).weights[0]) for p in (0.0, 0.25, 1.0)] == [0.0, 0.25, 1.0]
