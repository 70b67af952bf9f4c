"""What only CUDA runs, as far as a CPU can tell: that operators are called as they want to be, and when.

Fake tensors have a device, shapes and dtypes and no values, and check an operator's arguments like real ones.
"""

import importlib.util

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from rlpost.kernels import attention, cascade
from rlpost.kernels.layout import Layout

CPU = torch.device("cpu")
GROUPS = Layout((3, 4), ((2, 1), (3,)))


@pytest.fixture
def fake():
    with FakeTensorMode():
        yield lambda *shape, dtype=torch.bfloat16: torch.empty(*shape, dtype=dtype, device="cuda")


class Calls(TorchDispatchMode):
    """The arguments of flash attention by the names that the operator has for them."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_flash_attention" in func.name():
            names = [argument.name for argument in func._schema.arguments]
            self.found.append(dict(zip(names, args, strict=False)) | (kwargs or {}))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("what", ["groups", "completions"])
def test_flash_attention_takes_what_it_is_given(fake, what):
    """Six completion columns of four heads, over two shared heads of seven prompt columns or of their own six."""
    query, own = fake(6, 4, 16), what == "completions"
    key, value = (fake(6 if own else 7, 2, 16) for _ in range(2))
    rows = GROUPS.cumulative(what, query.device)
    others = rows if own else GROUPS.cumulative("prompts", query.device)
    assert rows[0].dtype == torch.int32 and rows[0].is_cuda and len(rows[0]) == len(others[0])
    with Calls() as calls:
        found = cascade.attend(query, key, value, rows, others, causal=own, scale=0.25)
        upstream = fake(6, 4, 16)
        grads = cascade.attend_backward(upstream, query, key, value, found, rows, others, own, 0.25)
    assert (found.out.shape, found.out.dtype) == (query.shape, query.dtype)
    # Merging by log-sum-exp relies on heads first and no padding.
    assert (found.lse.shape, found.lse.dtype) == ((4, 6), torch.float32)
    assert [g.shape for g in grads] == [query.shape, key.shape, value.shape]
    forward, backward = calls.found
    plain = {"max_q": rows[1], "max_k": others[1], "dropout_p": 0.0, "is_causal": own, "scale": 0.25}
    for call in calls.found:
        assert {name: call[name] for name in plain} == plain
        assert call["cum_seq_q"] is rows[0] and call["cum_seq_k"] is others[0]
        assert call["query"] is query and call["key"] is key and call["value"] is value
    assert forward["return_debug_mask"] is False and backward["grad_out"] is upstream
    assert backward["out"] is found.out and backward["logsumexp"] is found.lse


@pytest.mark.parametrize(
    ("lengths", "bounds"),
    [
        (((1,), ()), (4, 2, 2)),  # a group without columns beside one with a single column
        (((1, 1), (1,)), (4, 2, 2)),
        (((5, 2), (1,)), (4, 7, 5)),
    ],
)
def test_no_bound_says_that_every_sequence_has_exactly_one_query(lengths, bounds):
    layout = Layout((3, 4), lengths)
    assert tuple(layout.cumulative(what, CPU)[1] for what in ("prompts", "groups", "completions")) == bounds
    assert layout.cumulative("groups", CPU)[0].tolist() == [0, sum(lengths[0]), sum(map(sum, lengths))]


@pytest.mark.parametrize(
    ("width", "dtype", "capability", "wanted"),
    [
        (16, torch.bfloat16, (8, 0), True),
        (256, torch.float16, (9, 0), True),
        (264, torch.bfloat16, (9, 0), False),
        (20, torch.bfloat16, (9, 0), False),  # not a multiple of 8
        (16, torch.float32, (9, 0), False),
        (16, torch.float16, (7, 5), False),  # Turing
    ],
)
def test_flash_attention_is_for_what_it_supports(fake, width, dtype, capability, wanted, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    query = fake(1, 4, 6, width, dtype=dtype)
    assert cascade.usable(query, query) is wanted
    assert not cascade.usable(query, fake(1, 4, 6, 8, dtype=dtype))


@pytest.mark.parametrize(
    ("dtype", "masked", "repeated"),
    [(torch.bfloat16, False, False), (torch.bfloat16, True, True), (torch.float32, False, True)],
)
def test_shared_heads_are_repeated_where_no_fast_kernel_shares_them(fake, dtype, masked, repeated, monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "scaled_dot_product_attention", lambda *args, **how: asked.append((args, how)))
    query, key = fake(1, 4, 6, 16, dtype=dtype), fake(1, 2, 6, 16, dtype=dtype)
    attention._sdpa(query, key, key, fake(6, 6, dtype=torch.bool) if masked else None, None)
    (((_, k, v), how),) = asked
    assert k.shape[1] == v.shape[1] == (4 if repeated else 2)
    assert how["enable_gqa"] is not repeated and how["is_causal"] is not masked


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton on this machine")
@pytest.mark.parametrize(("version", "product"), [("2.13.0+cu130", "addmm"), ("2.9.1", "mm"), ("2.6.0", "addmm_")])
def test_products_of_half_precision_are_summed_in_float32(fake, version, product, monkeypatch):
    from torch.torch_version import TorchVersion

    from rlpost.kernels.triton_logp import Link, TritonBlocks

    called = []

    def spy(name, result):
        def call(*args, **how):
            called.append((name, [a.dtype for a in args], how.get("out_dtype")))
            return result

        return call

    total, block, head = fake(5, 8, dtype=torch.float32), fake(5, 11), fake(11, 8)
    for name in ("addmm", "mm"):
        monkeypatch.setattr(torch, name, spy(name, total))
    monkeypatch.setattr(torch.Tensor, "addmm_", spy("addmm_", total))
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    TritonBlocks(fake(5, 8), fake(5, dtype=torch.long), Link()).pull(total, block, head)
    half, single = torch.bfloat16, torch.float32
    wanted = {"addmm": ([single, half, half], single), "mm": ([half, half], single), "addmm_": ([single] * 3, None)}
    assert called == [(product, *wanted[product])]


# --- autocast -----------------------------------------------------------------------------------------------


def test_autocast_gives_attention_the_precision_that_torchs_own_would_take(monkeypatch):
    draw = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, h, 9, 16, generator=draw) for h in (4, 2))
    value = torch.randn(1, 2, 9, 16, generator=draw).bfloat16()  # as a projection leaves it, past no rotary table
    seen = []
    monkeypatch.setattr(cascade, "usable", lambda q, v: seen.append((q.dtype, v.dtype)))
    layer, layout = torch.nn.Module(), Layout((9,), ((),))
    with torch.autocast("cpu", torch.bfloat16):
        found = attention.packed(layer, query, key, value, layout)
        wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    assert seen == [(torch.bfloat16, torch.bfloat16)] and found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted.transpose(1, 2), rtol=0, atol=0)
    double = attention.packed(layer, query.double(), key.double(), value.double(), layout)
    with torch.autocast("cpu", torch.bfloat16):
        exact = attention.packed(layer, query.double(), key.double(), value.double(), layout)
    torch.testing.assert_close(exact, double, rtol=0, atol=0)
