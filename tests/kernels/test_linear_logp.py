"""The fast head in torch operations against its eager twin in float64, at every way of keeping logits."""

import itertools

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from rlpost.kernels import budget, eager, linear_logp, torch_logp

ROWS, WIDTH, WORDS = 9, 5, 300
SETTINGS = [
    {},
    {"temperature": 0.7},
    {"softcap": 2.0, "banned": (0, 5, 299)},
    {"temperature": 1.7, "softcap": 3.0, "bias": True},
    {"bias": True, "banned": (7,)},
]
COLUMN = 8 * ROWS
# All blocks fit; some do (two of them beside the two of 40 ids that are worked on); none does, at blocks of 40 ids.
BUDGETS = {"all": 1 << 30, "some": 160 * COLUMN, "none": 0}


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Blocks of 40 ids: eight of them, the last one short."""
    monkeypatch.setattr(torch_logp.TorchBlocks, "width", staticmethod(lambda rows: 40))


def inputs(dtype=torch.float64, frozen=False, seed=0):
    draw = torch.Generator().manual_seed(seed)
    given = {
        "hidden": torch.randn(ROWS, WIDTH, generator=draw, dtype=torch.float64),
        "head": torch.randn(WORDS, WIDTH, generator=draw, dtype=torch.float64),
        "bias": torch.randn(WORDS, generator=draw, dtype=torch.float64),
        "tokens": torch.tensor([1, 298, 41, 40, 39, 120, 120, 8, 250]),
    }
    for name in ("hidden", "head", "bias"):
        given[name] = given[name].to(dtype).requires_grad_(not frozen or name == "hidden")
    return given


def run(function, given, upstream, *, bias=False, **settings):
    """Values, and gradients by what trains."""
    leaves = [given[n] for n in ("hidden", "head", *(["bias"] if bias else [])) if given[n].requires_grad]
    logp, entropy = function(
        given["hidden"], given["head"], given["tokens"], bias=given["bias"] if bias else None, **settings
    )
    g, h = upstream
    loss = (g.to(logp.dtype) * logp).sum() + (0.0 if h is None else (h.to(logp.dtype) * entropy).sum())
    return [logp.detach(), entropy.detach(), *torch.autograd.grad(loss, leaves)]


def upstream(entropy: bool, zeros: bool):
    g = torch.linspace(-2.0, 3.0, ROWS, dtype=torch.float64)
    h = g.flip(0) * 0.7 if entropy else None
    if zeros:
        g[[0, 2, 3, 8]] = 0.0
        if h is not None:
            h[[0, 2, 8]] = 0.0  # row 3 has the gradient of the entropy only
    return g, h


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("frozen", [False, True])
def test_values_and_gradients_equal_the_oracle(settings, limit, frozen):
    for entropy, zeros in itertools.product([False, True], repeat=2):
        given, up = inputs(frozen=frozen), upstream(entropy, zeros)
        found = run(linear_logp, given, up, budget=BUDGETS[limit], **settings)
        wanted = run(eager.linear_logp, given, up, **settings)
        assert len(found) == (3 if frozen else 5 if settings.get("bias") else 4)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_float32_is_as_exact_as_its_rounding():
    up = upstream(True, True)
    found = run(linear_logp, inputs(torch.float32), up)
    wanted = run(eager.linear_logp, {**inputs()}, up)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, atol=2e-5, rtol=1e-5)


def test_half_precision_is_summed_in_float32():
    """bf16 has 8 bits: only the rounding of the finished gradient may show, half of 2**-8 of each entry."""
    half = inputs(torch.bfloat16)
    exact = {n: t.detach().double().requires_grad_() if t.is_floating_point() else t for n, t in half.items()}
    found = run(linear_logp, half, upstream(True, False), budget=0)
    wanted = run(eager.linear_logp, exact, upstream(True, False))
    assert [t.dtype for t in found] == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
    for a, b in zip(found[:2], wanted[:2], strict=True):
        torch.testing.assert_close(a.double(), b, atol=2e-5, rtol=0)
    for a, b in zip(found[2:], wanted[2:], strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=2**-8)


@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("factor", [1.0, 1e4, 1e30])
def test_banned_ids_leave_finite_gradients_at_any_loss_scale(limit, factor):
    given = inputs(torch.float32)
    g, h = upstream(True, False)
    _, _, d_hidden, d_head = run(
        linear_logp, given, (factor * g, factor * h), banned=(0, 5, 299), budget=BUDGETS[limit]
    )
    _, _, wanted, wanted_head = run(eager.linear_logp, inputs(), (g, h), banned=(0, 5, 299))
    torch.testing.assert_close(d_hidden.double() / factor, wanted, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(d_head.double() / factor, wanted_head, atol=2e-5, rtol=1e-4)
    assert d_head[[0, 5, 299]].abs().max() == 0.0


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_a_banned_token_has_probability_zero(frozen, limit, softcap):
    given = inputs(frozen=frozen)
    up = upstream(False, False)
    found = run(linear_logp, given, up, banned=(41,), softcap=softcap, budget=BUDGETS[limit])
    wanted = run(eager.linear_logp, given, up, banned=(41,), softcap=softcap)
    assert found[0][2] == -torch.inf
    for a, b in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("limit", BUDGETS)
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_extreme_logits_stay_finite(limit, softcap):
    given = inputs(torch.float32)
    given["hidden"] = (1e4 * given["hidden"].detach()).requires_grad_()
    found = run(linear_logp, given, upstream(True, False), temperature=0.1, softcap=softcap, budget=BUDGETS[limit])
    assert all(torch.isfinite(t).all() for t in found)
    assert found[1].min() >= 0.0


def test_a_bias_of_minus_infinity_is_a_ban():
    given = inputs()
    given["bias"] = given["bias"].detach().index_fill(0, torch.tensor([5, 44]), -torch.inf)
    found = linear_logp(given["hidden"], given["head"], given["tokens"], bias=given["bias"])
    wanted = eager.linear_logp(given["hidden"], given["head"], given["tokens"], bias=given["bias"])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


@pytest.mark.parametrize("limit", BUDGETS)
def test_only_rows_with_a_gradient_are_worked_on_backward(limit, monkeypatch):
    """Three of nine rows have one: every matrix product of the backward pass has three columns."""
    sizes, pull = [], torch_logp.TorchBlocks.pull
    given = inputs()
    logp, _ = linear_logp(given["hidden"], given["head"], given["tokens"], budget=BUDGETS[limit])
    spy = lambda self, total, block, head: sizes.append(block.shape[1]) or pull(self, total, block, head)  # noqa: E731
    monkeypatch.setattr(torch_logp.TorchBlocks, "pull", spy)
    logp[[1, 4, 6]].sum().backward()
    assert set(sizes) == {3}
    assert given["hidden"].grad[[0, 2, 3, 5, 7, 8]].abs().max() == 0.0


def test_no_gradient_anywhere_costs_no_product(monkeypatch):
    given = inputs()
    logp, entropy = linear_logp(given["hidden"], given["head"], given["tokens"])
    monkeypatch.setattr(torch_logp.TorchBlocks, "__init__", None)
    (0.0 * logp.sum() + 0.0 * entropy.sum()).backward()
    assert given["hidden"].grad.abs().max() == given["head"].grad.abs().max() == 0.0


class Peak(torch.utils._python_dispatch.TorchDispatchMode):
    """Entries of the largest tensor that an operation returned."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.entries = max(self.entries, out.untyped_storage().nbytes() // out.element_size())
        return out


@pytest.mark.parametrize("frozen", [False, True])
def test_no_more_is_held_than_the_budget(frozen):
    """At the budget of a quarter of the logits no tensor, and what is saved altogether, exceeds it."""
    given, limit = inputs(frozen=frozen), ROWS * WORDS * 8 // 4
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t), Peak() as peak:
        logp, _ = linear_logp(given["hidden"], given["head"], given["tokens"], budget=limit)
        logp.sum().backward()
    assert 8 * peak.entries <= max(limit, 8 * WORDS * WIDTH)
    blocks = [t for t in saved if t.shape == (18, ROWS)]  # 18 ids: two blocks in work take half of the budget
    assert sum(t.nbytes for t in blocks) <= limit // 2 and bool(blocks) != frozen


def test_nothing_is_kept_without_a_gradient():
    given = inputs()
    with Peak() as peak, torch.no_grad():
        logp, entropy = linear_logp(given["hidden"], given["head"], given["tokens"], budget=1 << 30)
    assert logp.grad_fn is None and entropy.grad_fn is None
    assert peak.entries <= WORDS * WIDTH < ROWS * WORDS  # views of the head; a block has 360 entries


def test_a_second_backward_pass_gives_the_same_gradient():
    given = inputs()
    logp, entropy = linear_logp(given["hidden"], given["head"], given["tokens"])
    loss = logp.sum() + entropy.square().sum()
    one = torch.autograd.grad(loss, [given["hidden"], given["head"]], retain_graph=True)
    two = torch.autograd.grad(loss, [given["hidden"], given["head"]])
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradient(reentrant):
    given = inputs()
    call = lambda h, w: linear_logp(h, w, given["tokens"])  # noqa: E731
    outputs = checkpoint(call, given["hidden"], given["head"], use_reentrant=reentrant)
    (outputs[0].sum() + outputs[1].sum()).backward()
    wanted = run(eager.linear_logp, inputs(), (torch.ones(ROWS), torch.ones(ROWS)))
    torch.testing.assert_close(given["hidden"].grad, wanted[2], atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(given["head"].grad, wanted[3], atol=1e-12, rtol=1e-12)


def test_a_second_derivative_is_refused():
    given = inputs()
    logp, _ = linear_logp(given["hidden"], given["head"], given["tokens"])
    with pytest.raises(RuntimeError, match="linear_logp has no second derivative"):
        torch.autograd.grad(logp.sum(), given["hidden"], create_graph=True)


@pytest.mark.parametrize("limit", BUDGETS)
def test_no_rows(limit):
    given = inputs()
    logp, entropy = linear_logp(given["hidden"][:0], given["head"], given["tokens"][:0], budget=BUDGETS[limit])
    assert logp.shape == entropy.shape == (0,)
    (logp.sum() + entropy.sum()).backward()
    assert given["head"].grad.abs().max() == given["hidden"].grad.abs().max() == 0.0


def test_autocast_casts_as_a_linear_layer_does():
    given = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = linear_logp(given["hidden"], given["head"], given["tokens"])
    wanted, _ = linear_logp(given["hidden"].bfloat16(), given["head"].bfloat16(), given["tokens"])
    assert torch.equal(found, wanted)


BAD = [
    ({"tokens": torch.tensor([300] * ROWS)}, {}, r"tokens must lie in \[0, 300\)"),
    ({"tokens": torch.tensor([1])}, {}, "one id per row"),
    ({"head": torch.zeros(WORDS, 4, dtype=torch.float64)}, {}, "hidden must be"),
    ({"head": torch.zeros(WORDS, WIDTH)}, {}, "one dtype"),
    ({}, {"temperature": 0.0}, "must be positive"),
    ({}, {"softcap": -1.0}, "must be positive"),
    ({}, {"banned": (300,)}, "banned ids"),
    ({}, {"banned": tuple(range(WORDS))}, "leave some id"),
    ({}, {"bias": torch.zeros(4)}, "one entry per row of head"),
]


@pytest.mark.parametrize("changes, settings, sentence", BAD)
def test_bad_input_is_named(changes, settings, sentence):
    given = inputs() | changes
    with pytest.raises(ValueError, match=sentence):
        linear_logp(given["hidden"], given["head"], given["tokens"], **settings)


def test_the_budget_of_a_cpu_is_fixed():
    assert budget.logits_budget(torch.device("cpu")) == 1 << 30
