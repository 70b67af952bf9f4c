"""TRL 1.16's own loss functions, run on given log-probabilities, against rlpost's recipes: values and gradients.

TRL's methods are called on a stand-in for the trainer that returns our log-probabilities instead of a model's.
"""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from rlpost import step
from tests import toy

LENGTHS = [3, 5, 1, 5, 2, 4]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
# per recipe: TRL's loss_type, importance_sampling_level, epsilon, epsilon_high
GRPO = {
    "grpo": ("grpo", "token", 0.2, 0.2),
    "dr_grpo": ("dr_grpo", "token", 0.2, 0.2),
    "dapo": ("dapo", "token", 0.2, 0.28),
    "bnpo": ("bnpo", "token", 0.2, 0.2),
    "gspo": ("grpo", "sequence", 3e-4, 4e-4),
    "cispo": ("cispo", "token", 0.2, 5.0),
}


def inputs(seed, spread=0.3):
    rng = torch.Generator().manual_seed(seed)
    old = -torch.rand(6, 5, generator=rng, dtype=torch.float64) - 0.1
    logp = old + spread * torch.randn(6, 5, generator=rng, dtype=torch.float64)
    return old, logp, torch.randn(6, 1, generator=rng, dtype=torch.float64)


def accelerator():
    same = lambda x, **_: x  # noqa: E731
    return SimpleNamespace(num_processes=1, reduce=same, gather=same, gather_for_metrics=same)


def stand_in(logp, kind, level, low, high, parts):
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.ones_like(logp), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level=level, beta=0.0, loss_type=kind, epsilon_low=low,
        epsilon_high=high, use_vllm=False, _entropy_bonus_enabled=False,
        args=SimpleNamespace(delta=None, steps_per_generation=parts), model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=parts, max_completion_length=7, accelerator=accelerator(),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip


def given(old, advantage, rows):
    blank = torch.zeros(len(rows), 2, dtype=torch.long)
    return {
        "prompt_ids": blank, "prompt_mask": blank, "completion_ids": torch.zeros(len(rows), 5, dtype=torch.long),
        "completion_mask": MASK[rows].int(), "advantages": advantage[rows, 0], "old_per_token_logps": old[rows],
        "old_logps": (old * MASK)[rows].sum(-1), "num_items_in_batch": MASK.sum(),
    }  # fmt: skip


def ours(name, old, logp, advantage, cuts, *overrides):
    method = toy.recipe(name, "rollout.max_tokens=7", *overrides)
    record = toy.scored(torch.zeros(6, 1), GROUP, MASK, old, advantage=advantage.expand(6, 5))
    logp = logp.clone().requires_grad_()
    counts = step.counts(record, micro_batches=len(cuts))
    parts = [step.loss(toy.batch(record, logp[rows], rows), method, counts)[0] for rows in cuts]
    return sum(parts), torch.autograd.grad(sum(parts), logp)[0]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("cuts", [[[0, 1, 2, 3, 4, 5]], [[0, 1, 2], [3, 4, 5]]], ids=["one", "two"])
@pytest.mark.parametrize("name", GRPO)
def test_grpo_family_equals_trl(name, cuts, seed):
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    old, logp, advantage = inputs(seed, spread=0.3 if name != "cispo" else 1.5)
    rows = [torch.tensor(c) for c in cuts]
    free = logp.clone().requires_grad_()
    parts = [
        trainer._compute_loss(stand_in(free[r], *GRPO[name], len(cuts)), None, given(old, advantage, r)) for r in rows
    ]
    value, gradient = ours(name, old, logp, advantage, rows)
    torch.testing.assert_close(value, sum(parts), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, torch.autograd.grad(sum(parts), free)[0], rtol=1e-6, atol=1e-7)
    assert gradient.abs().sum() > 0 and (gradient[~MASK] == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_rloo_equals_trl(seed):
    trainer = pytest.importorskip("trl.trainer.rloo_trainer").RLOOTrainer
    old, logp, advantage = inputs(seed, spread=0.1)
    rows, free = torch.arange(6), logp.clone().requires_grad_()
    loss = trainer._compute_loss(stand_in(free, None, None, 0.2, 0.2, 1), None, given(old, advantage, rows))
    value, gradient = ours("rloo", old, logp, advantage, [rows])
    torch.testing.assert_close(value, loss, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, free)[0], rtol=1e-6, atol=1e-7)


def test_bnpo_depends_on_the_cut_and_token_mean_does_not():
    old, logp, advantage = inputs(3)
    whole, halves = [torch.arange(6)], [torch.arange(3), torch.arange(3, 6)]
    gap = [
        (ours(name, old, logp, advantage, whole)[1] - ours(name, old, logp, advantage, halves)[1]).abs().max()
        for name in ("bnpo", "dapo")
    ]
    assert gap[0] > 1e-3 and gap[1] < 1e-9
