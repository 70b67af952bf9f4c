"""What every loss on disk must satisfy. The subjects are found, not listed; exemptions follow from signatures."""

import inspect

import pytest
import torch
from hypothesis import given, settings

from rlpost import catalogue
from rlpost.config import build
from rlpost.fields import is_regression, reads
from rlpost.types import Counts, Loss
from tests.strategies import field, seeds

PER_TOKEN, PER_PAIR = ("objective", "regularizer", "sft_loss"), ("preference", "reward_model")
FOUND = {
    f"{axis}/{path.stem}": build(catalogue.read_yaml(path))
    for axis in (*PER_TOKEN, *PER_PAIR)
    for path in sorted((catalogue.recipes_dir() / axis).glob("*.yaml"))
}
TOKEN = [name for name in FOUND if name.split("/")[0] in PER_TOKEN]
GRADIENT = ("logp", "entropy", "ref_divergence", "teacher_divergence", "value")
PAIRWISE = ("chosen_logp", "rejected_logp", "chosen_score", "rejected_score", "score")
COUNTS = Counts(rows=5, tokens=20, groups=3, pairs=5)


def inputs(name, n=5, t=4, seed=0, spread=1.0, dtype=torch.float64):
    """Arguments by name; those that the policy computes carry a gradient."""
    made = {}
    for parameter in reads(FOUND[name]):
        value = COUNTS if parameter == "counts" else field(parameter, n, t, seed, spread)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            value = value.to(dtype).requires_grad_(parameter in GRADIENT + PAIRWISE)
        made[parameter] = value
    return made


def learnt(made):
    return {k: v for k, v in made.items() if isinstance(v, torch.Tensor) and v.requires_grad}


def rows(value, index):
    """The rows of a field; per-row names are tuples."""
    if isinstance(value, torch.Tensor):
        return value[index]
    return tuple(value[i] for i in index.tolist()) if isinstance(value, tuple) else value


def gradients(name, made, weight=None):
    value = FOUND[name](*made.values()).value
    scalar = value.sum() if weight is None else (value * weight).sum()
    return dict(zip(learnt(made), torch.autograd.grad(scalar, list(learnt(made).values())), strict=True))


def test_the_losses_are_found():
    assert len(FOUND) >= 18 and len(TOKEN) >= 12, sorted(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_it_is_a_loss_with_detached_metrics(name):
    made = inputs(name)
    loss = FOUND[name](*made.values())
    assert isinstance(loss, Loss) and learnt(made)
    assert loss.value.shape in ([(5, 4), (5, 1)] if name in TOKEN else [(5,)])
    for metric, values in loss.metrics.items():
        assert not values.requires_grad and values.shape[0] == 5, metric
        assert torch.isfinite(values).all(), metric


@pytest.mark.parametrize("name", FOUND)
def test_knobs_are_those_of_the_signature(name):
    axis, option = name.split("/")
    node = catalogue.read_yaml(catalogue.recipes_dir() / axis / f"{option}.yaml")
    parameters = inspect.signature(FOUND[name].func).parameters.values()
    knobs = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert set(node) - {"_target_", "coef", "aggregate", "weight", "when"} == knobs
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)


@pytest.mark.parametrize("spread", [1e-3, 10.0, 300.0])
@pytest.mark.parametrize("name", FOUND)
def test_finite_at_extreme_distances(name, spread):
    made = inputs(name, spread=spread, seed=3, dtype=torch.float32)
    assert torch.isfinite(FOUND[name](*made.values()).value).all()
    assert all(torch.isfinite(g).all() for g in gradients(name, made).values())


@pytest.mark.parametrize("name", FOUND)
def test_masked_tokens_get_no_gradient(name):
    """Per token the step masks the value; a loss that reads a mask must not let masked tokens in on its own."""
    made = inputs(name, seed=5, spread=1e-4)
    masks = [k for k in made if k.endswith("mask")]
    for key in masks:
        side = key.removesuffix("mask")
        weight = made[key].double() if name in TOKEN else None
        gradient = gradients(name, made, weight)[f"{side}logp"]
        assert gradient[~made[key]].eq(0).all() and gradient[made[key]].ne(0).any()
        moved = {k: v.clone() for k, v in made.items()}
        moved[f"{side}logp"] = torch.where(made[key], made[f"{side}logp"], -77.0)
        before, after = FOUND[name](*made.values()).value, FOUND[name](*moved.values()).value
        rows = made[key] if name in TOKEN else torch.ones(5, dtype=torch.bool)
        torch.testing.assert_close(before.expand(rows.shape)[rows], after.expand(rows.shape)[rows])


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_rows_do_not_see_each_other_and_their_order_is_irrelevant(seed):
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    for name in FOUND:
        if {"group", "counts", "turn", "trajectory"} & set(reads(FOUND[name])):
            continue
        made = inputs(name, seed=seed)
        value = FOUND[name](*made.values()).value
        shuffled = FOUND[name](*(rows(v, order) for v in made.values())).value
        torch.testing.assert_close(shuffled, value[order], msg=name)
        part = FOUND[name](*(rows(v, torch.arange(2)) for v in made.values())).value
        torch.testing.assert_close(part, value[:2], msg=name)


CREDITED = [n for n in FOUND if "advantage" in reads(FOUND[n]) and not is_regression(FOUND[n])]


@pytest.mark.parametrize("name", CREDITED)
def test_zero_advantage_gives_zero_gradient_to_its_row(name):
    made = inputs(name, seed=2)
    made["advantage"] = made["advantage"].clone()
    made["advantage"][[1, 3]] = 0.0
    gradient = gradients(name, made)["logp"]
    assert gradient[[1, 3]].eq(0).all() and gradient[[0, 2, 4]].ne(0).any()
