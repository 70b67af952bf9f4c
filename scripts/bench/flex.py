"""H7: attention over a packed row, ours against FlexAttention with a block mask made from the same layout.

The row of every step has other lengths, as in training, and what compiles again is counted. FlexAttention has no
backward pass on a CPU, so there only its forward pass is compared; gradients and times are left to a GPU, where none of
this has run yet.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from rlpost.kernels import attention
from rlpost.kernels.layout import Layout
from scripts.bench import cuda
from scripts.bench.record import Case, apart, largest

ANSWER, MEMBERS, STEPS = 256, 8, 4
# Heads, heads of keys and values, width and layers of Qwen3-4B.
HEADS, SHARED, WIDTH, LAYERS = 32, 8, 128, 36
# bfloat16's rounding of outputs and gradients that were summed in another order, relative to the largest.
BOUND = 2e-2
# All that our attention wants to know of a layer: here that it says nothing of windows.
LAYER = SimpleNamespace()


@dataclass(frozen=True)
class Row:
    """A packed row: query (1,H,L,d), key and value (1,Hk,L,d), and the gradient that arrives at the output."""

    layout: Layout
    query: Tensor
    key: Tensor
    value: Tensor
    upstream: Tensor


def layouts(length: int, *, answer: int = ANSWER, members: int = MEMBERS, steps: int = STEPS) -> list[Layout]:
    """A layout per step: about `length` tokens of prompt, completions of half of `answer` to `answer` tokens."""
    draw = torch.Generator().manual_seed(4)
    found = []
    for step in range(steps):
        answers = torch.randint(answer // 2, answer + 1, (members,), generator=draw).tolist()
        found.append(Layout((length - 3 * step,), (tuple(answers),)))
    return found


def row_of(layout: Layout, device: str, dtype: torch.dtype, *, heads: tuple[int, int], width: int) -> Row:
    """Random tensors for a layout, which want gradients where FlexAttention has any."""
    columns = layout.prompt_columns + sum(sum(lengths) for lengths in layout.completions)
    draw = torch.Generator(device=device).manual_seed(5)

    def make(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, device=device).to(dtype)

    given = [make(1, count, columns, width).requires_grad_(device != "cpu") for count in (heads[0], heads[1], heads[1])]
    return Row(layout, *given, make(1, columns, heads[0], width))


def segments(layout: Layout, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per column: the prompt or completion that it belongs to, and the prompt that it sees; -1 in a prompt."""
    count = len(layout.prompts)
    sizes = torch.tensor([*layout.prompts, *itertools.chain(*layout.completions)])
    prompt = [-1] * count + [group for group, lengths in enumerate(layout.completions) for _ in lengths]
    part = torch.arange(len(sizes)).repeat_interleave(sizes)
    return part.to(device), torch.tensor(prompt).repeat_interleave(sizes).to(device)


class Flex:
    """FlexAttention over packed rows: compiled once for all lengths, or as it stands for a comparison on a CPU."""

    def __init__(self, *, compiled: bool):
        self.attend: Any = torch.compile(flex_attention, dynamic=True) if compiled else flex_attention
        self.blocks: Any = torch.compile(create_block_mask, dynamic=True) if compiled else create_block_mask

    def mask(self, layout: Layout, device: torch.device) -> Any:
        """The block mask that every layer of a step uses."""
        part, prompt = segments(layout, device)

        def seen(_batch: Tensor, _head: Tensor, query: Tensor, other: Tensor) -> Tensor:
            own = (part[query] == part[other]) & (query >= other)
            return own | (part[other] == prompt[query])

        return self.blocks(seen, None, None, len(part), len(part), device=device)

    def layers(self, row: Row) -> Callable[[], Tensor]:
        """One layer's attention, (1,L,H,d)."""
        mask = self.mask(row.layout, row.query.device)
        return lambda: self.attend(row.query, row.key, row.value, block_mask=mask, enable_gqa=True).transpose(1, 2)


def ours(row: Row) -> Callable[[], Tensor]:
    """One layer's attention, (1,L,H,d); the layout's tables are made anew, as for every row of a run."""
    layout = Layout(row.layout.prompts, row.layout.completions)
    return lambda: attention.packed(LAYER, row.query, row.key, row.value, layout)


def step(prepare: Callable[[Row], Callable[[], Tensor]], row: Row, layers: int) -> Tensor:
    """Output of the last of `layers` passes, each with its backward pass where the row wants gradients."""
    layer = prepare(row)
    out = layer()
    for number in range(layers):
        out = layer() if number else out
        if out.requires_grad:
            row.query.grad = row.key.grad = row.value.grad = None
            out.backward(row.upstream)
    return out.detach()


def disagreement(flex: Flex, row: Row) -> float:
    """Outputs and, where there are any, gradients of query, key and value against FlexAttention's."""
    found = []
    for prepare in (ours, flex.layers):
        out = step(prepare, row, 1)
        slopes = {n: t.grad for n, t in (("q", row.query), ("k", row.key), ("v", row.value)) if t.grad is not None}
        found.append(({"": out}, slopes))
    (out, slopes), (wanted, other) = found
    return largest(apart(out, wanted), *([apart(slopes, other)] if other or slopes else []))


def compilations() -> int:
    """Graphs that torch.compile has made in this process."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def compare(repeats: int) -> list[Case]:
    """H7: all layers of steps whose lengths differ, forward and backward, at the sizes of H6."""
    return [_case(length, repeats) for length in (4096, 8192)]


def _case(length: int, repeats: int) -> Case:
    flex = Flex(compiled=True)
    rows = [row_of(layout, "cuda", torch.bfloat16, heads=(HEADS, SHARED), width=WIDTH) for layout in layouts(length)]
    error = disagreement(flex, rows[0])
    before = compilations()
    error = largest(error, *(disagreement(flex, row) for row in rows[1:]))
    times = cuda.race({"ours": lambda: _all(ours, rows), "flex": lambda: _all(flex.layers, rows)}, repeats)
    note = (
        f"attention alone, {len(rows)} rows of other lengths through {LAYERS} layers of {HEADS} heads over {SHARED} of "
        f"width {WIDTH}, C<={ANSWER} G={MEMBERS} bfloat16, the block mask once per row; FlexAttention was compiled "
        f"{compilations() - before} times after the first row"
    )
    return Case(f"P={length}", error, BOUND, 1.2, 1.5, times.ms["ours"], times.ms["flex"], times.spread, note)


def _all(prepare: Callable[[Row], Callable[[], Tensor]], rows: Sequence[Row]) -> None:
    for row in rows:
        step(prepare, row, LAYERS)
