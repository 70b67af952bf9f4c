"""Direct preference losses: numbers by hand, gradients in float64, reductions, and TRL's own code."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings

from rlpost.preference.direct import dpo, ipo, rpo, rpo_average
from tests.strategies import field, seeds

F64 = torch.float64
# chosen: two tokens, log-ratios .4 and .2 (a masked third of 9); rejected: three tokens, -.1, -.3, .7
PAIR = [
    torch.tensor([[-0.6, -0.8, -1.0]], dtype=F64),
    torch.tensor([[-1.1, -1.3, -0.3]], dtype=F64),
    torch.tensor([[True, True, False]]),
    torch.tensor([[True, True, True]]),
    torch.tensor([[-1.0, -1.0, -10.0]], dtype=F64),
    torch.tensor([[-1.0, -1.0, -1.0]], dtype=F64),
]
NAMES = ["chosen_logp", "rejected_logp", "chosen_mask", "rejected_mask", "ref_chosen_logp", "ref_rejected_logp"]


def softplus(x):
    return math.log1p(math.exp(x))


def random_pair(seed, n=3, t=4):
    return [field(name, n, t, seed) for name in NAMES]


def test_dpo():
    # d = .6 and .3, h = .2 * .3 = .06
    loss = dpo(*PAIR, beta=0.2)
    assert loss.value.tolist() == pytest.approx([softplus(-0.06)], rel=1e-9)
    smooth = dpo(*PAIR, beta=0.2, label_smoothing=0.1).value
    assert smooth.tolist() == pytest.approx([0.9 * softplus(-0.06) + 0.1 * softplus(0.06)], rel=1e-9)
    metrics = {name: value.item() for name, value in loss.metrics.items()}
    assert metrics == pytest.approx({"chosen_reward": 0.12, "rejected_reward": 0.06, "margin": 0.06, "accuracy": 1})
    assert dpo(*PAIR).metrics["margin"].item() == pytest.approx(0.03)
    assert dpo(PAIR[4], PAIR[5], *PAIR[2:], beta=7.0).value.item() == pytest.approx(math.log(2))


def test_ipo():
    # means .3 and .1; target 1 / (2 * .25) = 2
    loss = ipo(*PAIR, beta=0.25)
    assert loss.value.item() == pytest.approx((0.3 - 0.1 - 2) ** 2, rel=1e-9)
    assert loss.metrics["margin"].item() == pytest.approx(0.05)
    assert loss.metrics["chosen_reward"].item() == pytest.approx(0.075)


def test_rpo():
    plain = dpo(*PAIR, beta=0.2).value.item()
    # -sum log pi(chosen) = 1.4 over two tokens
    summed = rpo(*PAIR, beta=0.2, eta=0.5)
    assert summed.value.item() == pytest.approx(plain + 0.1 * 1.4, rel=1e-9)
    assert summed.metrics["nll"].item() == pytest.approx(1.4)
    average = rpo_average(*PAIR, beta=0.2, alpha=0.5)
    assert average.value.item() == pytest.approx(plain + 0.5 * 0.7, rel=1e-9)
    assert average.metrics["nll"].item() == pytest.approx(0.7)
    assert summed.metrics["margin"].item() == pytest.approx(0.06)


@settings(max_examples=20)
@given(seed=seeds)
def test_gradients_and_reductions(seed):
    pair = random_pair(seed)
    policy = [x.requires_grad_() for x in pair[:2]]
    for loss in (dpo, ipo, rpo, rpo_average, lambda *a: dpo(*a, label_smoothing=0.2)):
        assert torch.autograd.gradcheck(lambda c, r, f=loss: f(c, r, *pair[2:]).value, policy)
    torch.testing.assert_close(rpo(*pair, beta=0.1, eta=0.0).value, dpo(*pair).value)
    torch.testing.assert_close(rpo_average(*pair, alpha=0.0).value, dpo(*pair).value)
    swapped = [pair[i] for i in (1, 0, 3, 2, 5, 4)]
    torch.testing.assert_close(dpo(*pair, label_smoothing=1.0).value, dpo(*swapped).value)


def test_gradient_weight_is_the_sigmoid_of_the_wrong_margin():
    pair = random_pair(4)
    chosen = pair[0].requires_grad_()
    loss = dpo(*pair, beta=0.3)
    gradient = torch.autograd.grad(loss.value.sum(), chosen)[0]
    weight = 0.3 * torch.sigmoid(-loss.metrics["margin"])
    torch.testing.assert_close(gradient, torch.where(pair[2], -weight[:, None], 0.0))


@pytest.mark.parametrize(("kind", "ours"), [("sigmoid", dpo), ("ipo", ipo)])
def test_equals_trl(kind, ours):
    """TRL's own loss on our log-probabilities: one prompt token, then T of the completion; chosen above rejected."""
    trainer = pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer
    pair = random_pair(11)
    mask, policy = torch.cat(pair[2:4]), torch.cat(pair[:2]).requires_grad_()
    reference, zero = torch.cat(pair[4:]), torch.zeros(mask.shape)

    def model(**_):
        return SimpleNamespace(log_probs=policy * mask, entropy=zero, mean_logits=zero, is_top1=zero.bool())

    same = lambda x, **_: x  # noqa: E731
    stand_in = SimpleNamespace(
        model=SimpleNamespace(training=True), aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True,
        accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same), f_divergence_type="reverse_kl",
        loss_types=[kind], loss_weights=[1.0], beta=0.1, label_smoothing=0.0, use_weighting=False, _tp_size=1,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0,
    )  # fmt: skip
    full = torch.cat([torch.zeros(6, 1, dtype=torch.long), mask.long()], dim=1)
    chosen, rejected = (reference * mask).sum(-1).chunk(2)
    inputs = {"input_ids": full, "attention_mask": torch.ones_like(full), "completion_mask": full}
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    loss = trainer._compute_loss(stand_in, model, inputs, return_outputs=False)
    value = ours(*policy.chunk(2), *pair[2:4], *reference.chunk(2)).value.mean()
    torch.testing.assert_close(value, loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value, policy)[0], torch.autograd.grad(loss, policy)[0])


def test_defaults_are_the_papers_and_metrics_are_detached():
    pair = [x.requires_grad_() if x.is_floating_point() else x for x in random_pair(2)]
    for loss, knobs in (
        (dpo, {"beta": 0.1, "label_smoothing": 0.0}),
        (ipo, {"beta": 0.1}),
        (rpo, {"beta": 0.01, "eta": 0.005}),
        (rpo_average, {"beta": 0.1, "alpha": 0.2}),
    ):
        found = loss(*pair)
        assert torch.equal(found.value, loss(*pair, **knobs).value)
        assert not any(metric.requires_grad for metric in found.metrics.values())
