"""Divergences straight from hidden states against the eager twin in float64, at every way of keeping derivatives."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from rlpost.divergence.full import forward_kl, js, reverse_kl
from rlpost.divergence.top_k import top_k_reverse_kl
from rlpost.kernels import eager, linear_divergence

ROWS, WIDTH, OTHER, WORDS = 7, 5, 4, 30
# Everything at once; the derivatives fit but a chunk has one row; nothing fits.
BUDGETS = {"all": 1 << 30, "kept": 2 * 8 * ROWS * WORDS, "none": 0}
SETTINGS = [
    {},
    {"temperature": 0.7, "banned": (0, 5, 29)},
    {"softcap": 2.0, "other_softcap": 3.0},
    {"bias": True, "other_bias": True, "temperature": 1.3},
]


def inputs(frozen=False, dtype=torch.float64):
    draw = torch.Generator().manual_seed(2)
    shapes = {
        "hidden": (ROWS, WIDTH),
        "head": (WORDS, WIDTH),
        "bias": (WORDS,),
        "other_hidden": (ROWS, OTHER),
        "other_head": (WORDS, OTHER),
        "other_bias": (WORDS,),
    }
    given = {n: torch.randn(s, generator=draw, dtype=torch.float64).to(dtype) for n, s in shapes.items()}
    for name, tensor in given.items():
        tensor.requires_grad_(not frozen or name not in ("head", "bias"))
    return given


def run(function, given, divergence, *, bias=False, other_bias=False, **settings):
    """Values, and gradients by what trains; rows 1, 2 and 4 of seven have an upstream gradient of 0."""
    leaves = [given[n] for n in ("hidden", "head", *(["bias"] if bias else [])) if given[n].requires_grad]
    values = function(
        given["hidden"],
        given["head"],
        given["other_hidden"],
        given["other_head"],
        divergence=divergence,
        bias=given["bias"] if bias else None,
        other_bias=given["other_bias"] if other_bias else None,
        **settings,
    )
    upstream = torch.linspace(-1.0, 2.0, ROWS, dtype=values.dtype)
    upstream[[1, 4]] = 0.0
    others = [given[n] for n in ("other_hidden", "other_head")]
    grads = torch.autograd.grad((upstream * values).sum(), leaves + others, allow_unused=True)
    assert grads[-2:] == (None, None)  # nothing flows to the other model
    return [values.detach(), *grads[:-2]]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("frozen", [False, True])
def test_values_and_gradients_equal_the_oracle(settings, limit, frozen):
    for divergence in (forward_kl, reverse_kl, js, lambda p, q: top_k_reverse_kl(p, q, k=3)):
        found = run(linear_divergence, inputs(frozen), divergence, budget=BUDGETS[limit], **settings)
        wanted = run(eager.linear_divergence, inputs(frozen), divergence, **settings)
        assert len(found) == (2 if frozen else 4 if settings.get("bias") else 3)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, atol=1e-13, rtol=1e-12)


def test_banned_ids_have_no_gradient():
    _, _, d_head = run(linear_divergence, inputs(), js, banned=(0, 5))
    assert d_head[[0, 5]].abs().max() == 0.0 and d_head[1].abs().max() > 0.0


def test_half_precision_is_scored_in_float32():
    values, d_hidden, d_head = run(linear_divergence, inputs(dtype=torch.bfloat16), forward_kl, budget=0)
    wanted, w_hidden, w_head = run(eager.linear_divergence, inputs(dtype=torch.bfloat16), forward_kl)
    assert values.dtype == torch.float32 and d_hidden.dtype == d_head.dtype == torch.bfloat16
    torch.testing.assert_close(values, wanted, atol=1e-6, rtol=1e-6)
    # Both round dL/dz and the gradient to 8 bits, in another order: a few units of 2**-8 of the largest entry.
    for a, b in ((d_hidden, w_hidden), (d_head, w_head)):
        torch.testing.assert_close(a, b, atol=3 * 2**-8 * float(b.abs().max()), rtol=0)


def test_a_frozen_head_keeps_nothing_of_the_size_of_the_vocabulary():
    def kept(frozen):
        given = inputs(frozen)
        values = linear_divergence(
            given["hidden"], given["head"], given["other_hidden"], given["other_head"], divergence=forward_kl
        )
        return [tuple(t.shape) for t in values.grad_fn.saved_tensors if t is not None]

    assert (ROWS, WORDS) not in kept(frozen=True) and (ROWS, WORDS) in kept(frozen=False)


def test_one_row_at_a_time_is_seen_by_the_divergence():
    sizes = []
    run(linear_divergence, inputs(), lambda p, q: sizes.append(len(q)) or forward_kl(p, q), budget=0)
    # Seven rows forward, and backward the four whose upstream gradient is not zero.
    assert sizes == [1] * 11


def test_checkpointing_and_no_grad():
    given = inputs()
    call = lambda h, w: linear_divergence(  # noqa: E731
        h, w, given["other_hidden"], given["other_head"], divergence=reverse_kl
    )
    values = checkpoint(call, given["hidden"], given["head"], use_reentrant=False)
    with torch.no_grad():
        plain = call(given["hidden"], given["head"])
    assert plain.grad_fn is None and torch.equal(values, plain)
    one = torch.autograd.grad(values.sum(), given["head"])[0]
    torch.testing.assert_close(one, torch.autograd.grad(call(given["hidden"], given["head"]).sum(), given["head"])[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_no_rows(frozen):
    given = inputs(frozen)
    found = linear_divergence(
        given["hidden"][:0], given["head"], given["other_hidden"][:0], given["other_head"], divergence=reverse_kl
    )
    assert found.shape == (0,)
    found.sum().backward()
    assert given["hidden"].grad.abs().max() == 0.0


def test_bad_input_is_named():
    given = inputs()
    four = [given[n] for n in ("hidden", "head", "other_hidden", "other_head")]
    with pytest.raises(ValueError, match="one number per row"):
        linear_divergence(*four, divergence=lambda p, q: (p - q).sum())
    with pytest.raises(ValueError, match="same rows and vocabulary"):
        linear_divergence(*four[:3], four[3][:3], divergence=forward_kl)
    with pytest.raises(ValueError, match="banned ids"):
        linear_divergence(*four, divergence=forward_kl, banned=(30,))
    values = linear_divergence(*four, divergence=forward_kl)
    with pytest.raises(RuntimeError, match="linear_divergence has no second derivative"):
        torch.autograd.grad(values.sum(), given["hidden"], create_graph=True)


@pytest.mark.parametrize(
    "wrong", [{"softcap": 0.0}, {"other_softcap": -1.0}, {"bias": torch.ones(3)}, {"other_bias": torch.ones(1)}]
)
def test_settings_that_do_not_fit_are_refused(wrong):
    given = inputs()
    four = [given[n] for n in ("hidden", "head", "other_hidden", "other_head")]
    with pytest.raises(ValueError, match=r"softcap must be positive|one entry per id"):
        linear_divergence(*four, divergence=reverse_kl, **wrong)
