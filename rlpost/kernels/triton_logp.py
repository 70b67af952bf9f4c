"""Blocks of logits on CUDA: matrix products by cuBLAS, and one Triton pass over a block in each direction.

A block holds the products r = h W' + b, row-major (M,B) in the dtype of the states. The forward kernel reads it once
and writes partial statistics in float32; the backward kernel reads it once and writes dL/dr. Softcap, temperature and
excluded ids (r = -inf) are applied on the fly.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.torch_version import TorchVersion

from rlpost.kernels.blocks import NEVER, Link, Part, Upstream

# Ids per block of the vocabulary: few and large matrix products, and 0.5 GB of bf16 at 8192 rows.
WIDTH = 32768
# Ids that one program of the forward kernel folds, and ids it holds at a time.
SPLIT, CHUNK = 8192, 2048

_NEVER = tl.constexpr(NEVER)


@triton.jit
def _logits(r, cap, inverse, HAS_CAP: tl.constexpr):
    """z and dz/dr times the temperature; excluded ids get NEVER and 0."""
    absent = r == -float("inf")
    r = tl.where(absent, 0.0, r)
    slope = tl.where(absent, 0.0, 1.0)
    if HAS_CAP:
        t = 2 * tl.sigmoid(2 * r / cap) - 1  # tanh
        slope = slope * (1 - t * t)
        r = cap * t
    return tl.where(absent, _NEVER, r * inverse), slope


@triton.jit
def _measure(
    block, stride, tokens, peaks, masses, moments, target, start, size, rows, cap, inverse,
    HAS_CAP: tl.constexpr, SPLIT: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    token = tl.load(tokens + row) - start
    peak = tl.full((), _NEVER, tl.float32)
    mass = tl.full((), 0.0, tl.float32)
    moment = tl.full((), 0.0, tl.float32)  # of z - peak
    for first in range(0, SPLIT, CHUNK):
        ids = part * SPLIT + first + tl.arange(0, CHUNK)
        r = tl.load(block + row * stride + ids, mask=ids < size, other=-float("inf")).to(tl.float32)
        z, _ = _logits(r, cap, inverse, HAS_CAP)
        top = tl.maximum(peak, tl.max(z, 0))
        shrink = tl.exp(peak - top)
        e = tl.where(r == -float("inf"), 0.0, tl.exp(z - top))
        moment = shrink * (moment + (peak - top) * mass) + tl.sum(e * (z - top), 0)
        mass = shrink * mass + tl.sum(e, 0)
        peak = top
        tl.store(target + row + ids * 0, z, mask=(ids == token) & (ids < size))
    tl.store(peaks + part * rows + row, peak)
    tl.store(masses + part * rows + row, mass)
    tl.store(moments + part * rows + row, moment)


@triton.jit
def _weigh(block, stride, peaks, size, cap, inverse, HAS_CAP: tl.constexpr, CHUNK: tl.constexpr):
    """In place: r becomes exp(z - peak) dz/dr, times the temperature."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    place = block + row * stride + ids
    r = tl.load(place, mask=ids < size, other=-float("inf")).to(tl.float32)
    z, slope = _logits(r, cap, inverse, HAS_CAP)
    e = tl.exp(z - tl.load(peaks + row)) * slope
    tl.store(place, e.to(block.dtype.element_ty), mask=ids < size)


@triton.jit
def _gradient(
    block, stride, picked, out, out_stride, tokens, logp, entropy, norm, mean, start, size, cap, inverse,
    HAS_PICK: tl.constexpr, HAS_ENTROPY: tl.constexpr, HAS_CAP: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    source = row
    if HAS_PICK:
        source = tl.load(picked + row)
    r = tl.load(block + source * stride + ids, mask=ids < size, other=-float("inf")).to(tl.float32)
    z, slope = _logits(r, cap, inverse, HAS_CAP)
    lp = z - tl.load(norm + row)
    p = tl.exp(lp)
    g = tl.load(logp + row)
    d = g * (tl.where(ids + start == tl.load(tokens + row), 1.0, 0.0) - p)
    if HAS_ENTROPY:
        d -= tl.load(entropy + row) * p * (lp + tl.load(mean + row))
    d = d * slope * inverse
    tl.store(out + row * out_stride + ids, d.to(out.dtype.element_ty), mask=ids < size)


def _launch(kernel: Any, grid: tuple[int, int], *args: Any, **constants: Any) -> None:
    kernel[grid](*args, **constants)


class TritonBlocks:
    """The operations on blocks of `hidden` (M,D) with `tokens` (M,): the same methods as `TorchBlocks`."""

    SCRATCH = 1

    def __init__(self, hidden: Tensor, tokens: Tensor, link: Link):
        self.dtype = torch.float32
        self.hidden, self.tokens, self.link = hidden.contiguous(), tokens.contiguous(), link
        self.cap = (float(link.softcap or 1.0), 1 / link.temperature, link.softcap is not None)
        self.buffer: Tensor | None = None

    @staticmethod
    def width(rows: int) -> int:
        return WIDTH

    @staticmethod
    def item(dtype: torch.dtype) -> int:
        """Bytes of an entry."""
        return dtype.itemsize

    def measure(
        self, head: Tensor, bias: Tensor | None, start: int, target: Tensor, *, floor: Tensor | None = None, keep=False
    ) -> Part:
        """Partial statistics of the ids [start, start + B); the logits of the tokens among them go to `target`.

        `floor` has no effect: a block of products has no peak of its own.
        """
        rows, size = len(self.hidden), len(head)
        block = self.hidden.new_empty(rows, size) if keep else self._scratch(size)
        if bias is None:
            torch.mm(self.hidden, head.t(), out=block)
        else:
            torch.addmm(bias, self.hidden, head.t(), out=block)
        if ids := [v - start for v in self.link.banned if start <= v < start + size]:
            block[:, ids] = -torch.inf
        splits = triton.cdiv(size, SPLIT)
        peak, mass, moment = torch.empty(3, splits, rows, dtype=self.dtype, device=block.device)
        if rows:
            _launch(
                _measure, (rows, splits),
                block, block.stride(0), self.tokens, peak, mass, moment, target, start, size, rows, *self.cap,
                SPLIT=SPLIT, CHUNK=CHUNK,
            )  # fmt: skip
        return Part(block, peak, mass, moment)

    def weights(self, part: Part) -> Tensor:
        """exp(z - peak) dz/dr times the temperature, in place; `part` has one peak per row."""
        rows, size = part.block.shape
        grid = (rows, triton.cdiv(size, CHUNK))
        _launch(_weigh, grid, part.block, part.block.stride(0), part.peak, size, *self.cap, CHUNK=CHUNK)
        return part.block

    def gradient(self, block: Tensor, peak: Tensor, start: int, up: Upstream, rows: Tensor | None) -> Tensor:
        """dL/dr (M',B). `rows` (M',) selects from a block of more rows; `up` holds those rows only."""
        count, size = len(self.hidden), block.shape[1]
        out = self._scratch(size)
        # A banned token's own logit is constant, and its entry of the block is excluded by the kernel.
        entropy = up.logp if up.entropy is None else up.entropy
        _launch(
            _gradient, (count, triton.cdiv(size, CHUNK)),
            block, block.stride(0), up.logp if rows is None else rows, out, out.stride(0), self.tokens,
            up.logp.contiguous(), entropy.contiguous(), up.norm, up.mean, start, size, *self.cap[:2],
            HAS_PICK=rows is not None, HAS_ENTROPY=up.entropy is not None, HAS_CAP=self.cap[2], CHUNK=CHUNK,
        )  # fmt: skip
        return out

    def zeros(self) -> Tensor:
        """An accumulator of dL/dhidden (M,D) in float32."""
        return torch.zeros(self.hidden.shape, dtype=self.dtype, device=self.hidden.device)

    def pull(self, total: Tensor, block: Tensor, head: Tensor) -> None:
        """total += block head, without rounding the product to half precision first: that would bias the gradient."""
        if block.dtype == self.dtype:
            total.addmm_(block, head)
        elif block.is_cuda and torch.__version__ >= TorchVersion("2.10"):
            torch.addmm(total, block, head, out_dtype=self.dtype, out=total)
        elif block.is_cuda and torch.__version__ >= TorchVersion("2.8"):
            # These releases refuse a float32 sum of products of half precision.
            total.add_(torch.mm(block, head, out_dtype=self.dtype))
        else:
            total.addmm_(block.float(), head.float())

    def rows(self, total: Tensor) -> Tensor:
        """The accumulator as (M,D)."""
        return total

    def push(self, block: Tensor, out: Tensor) -> None:
        """out = block' hidden (B,D): the gradient of rows of the head, each written once; cuBLAS sums in float32."""
        torch.mm(block.t(), self.hidden, out=out)

    def bias(self, block: Tensor) -> Tensor:
        """(B,): the gradient of entries of the bias."""
        return block.sum(0, dtype=self.dtype)

    def _scratch(self, size: int) -> Tensor:
        """(M,B), overwritten by the next call; a recomputed block is replaced by its gradient in place."""
        if self.buffer is None or self.buffer.numel() < len(self.hidden) * size:
            self.buffer = self.hidden.new_empty(len(self.hidden) * size)
        return self.buffer[: len(self.hidden) * size].view(-1, size)
