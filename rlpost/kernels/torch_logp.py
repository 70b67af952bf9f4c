"""Blocks of logits in torch operations, for CPUs and for any device without Triton.

A block holds exp(z - peak), vocabulary-major (B,M): the layout in which the three matrix products run fastest on CPUs,
and with the exponential kept the backward pass is one multiplication per entry. Blocks are narrow enough to stay in
cache while they are worked on. Arithmetic is float32, or float64 for float64 states.
"""

from bisect import bisect_left

import torch
from torch import Tensor

from rlpost.kernels.blocks import NEVER, Link, Part, Upstream

# Entries of a block: 2 MiB in float32, which leaves room in cache for the rows of the head that it is multiplied with.
ENTRIES = 1 << 19


class TorchBlocks:
    """The operations on blocks of `hidden` (M,D) with `tokens` (M,)."""

    SCRATCH = 2

    def __init__(self, hidden: Tensor, tokens: Tensor, link: Link):
        self.dtype = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.hidden, self.tokens, self.link = hidden.to(self.dtype), tokens, link
        # Scaling the states costs M D multiplications, scaling the logits M V.
        self.factor = 1 / (link.softcap or link.temperature)
        self.scaled = (self.hidden * self.factor).t().contiguous()
        self.order = tokens.argsort()
        self.sorted = tokens[self.order].tolist()
        self.buffers: dict[str, Tensor] = {}

    @staticmethod
    def width(rows: int) -> int:
        return min(4096, max(256, ENTRIES // max(1, rows)))

    @staticmethod
    def item(dtype: torch.dtype) -> int:
        """Bytes of an entry."""
        return 8 if dtype == torch.float64 else 4

    def measure(
        self, head: Tensor, bias: Tensor | None, start: int, target: Tensor, *, floor: Tensor | None = None, keep=False
    ) -> Part:
        """Fold the ids [start, start + B) of `head` (B,D) and write the logits of the tokens among them to `target`.

        `floor` (M,) is a lower bound of the peak. With `keep` the block is a new tensor, otherwise the next call
        overwrites it.
        """
        z = self._buffer("z", len(head))
        torch.mm(head.to(self.dtype), self.scaled, out=z)
        if bias is not None:
            z.add_(bias.to(self.dtype)[:, None], alpha=self.factor).clamp_(min=NEVER)
        if self.link.softcap:
            z.tanh_().mul_(self.link.softcap / self.link.temperature)
        if ids := self._banned(start, len(head)):
            z[ids] = NEVER
        rows, local = self._here(start, len(head))
        target[rows] = z[local, rows]
        peak = z.amax(0) if floor is None else torch.maximum(z.amax(0), floor)
        e = torch.exp(z.sub_(peak), out=torch.empty_like(z) if keep else self._buffer("e", len(head)))
        mass = e.sum(0)
        return Part(e, peak[None], mass[None], z.mul_(e).sum(0)[None])

    def weights(self, part: Part) -> Tensor:
        """exp(z - peak) times dz/dr and the temperature, in place: what the rows of the head are weighed with."""
        if self.link.softcap:
            part.block.mul_(self.link.slope(self._logits(part.block, part.peak[0])))
        return part.block

    def gradient(self, block: Tensor, peak: Tensor, start: int, up: Upstream, rows: Tensor | None) -> Tensor:
        """dL/dr (B,M'). `rows` (M',) selects from a block of more rows; `up` holds those rows only."""
        peak = peak[0]
        e = block if rows is None else block.index_select(1, rows)
        peak = peak if rows is None else peak[rows]
        g = up.logp / self.link.temperature
        scale = torch.exp(peak - up.norm)
        if up.entropy is None:
            d = torch.mul(e, -g * scale, out=self._buffer("z", len(e)))
        else:
            # -p (g + gH (log p + H)); e = 0 must count as p log p = 0.
            h = up.entropy / self.link.temperature
            d = torch.clamp(e, min=torch.finfo(self.dtype).tiny, out=self._buffer("z", len(e))).log_()
            d.mul_(h).add_(h * (peak - up.norm + up.mean) + g).mul_(e).mul_(-scale)
        onehot = g.masked_fill(up.target == -torch.inf, 0.0)
        if self.link.softcap:
            d.mul_(self.link.slope(self._logits(e, peak)))
            onehot = onehot * self.link.slope(up.target.masked_fill(up.target == -torch.inf, 0.0))
        if ids := self._banned(start, len(e)):
            d[ids] = 0.0
        here, local = self._here(start, len(e))
        d[local, here] += onehot[here]
        return d

    def zeros(self) -> Tensor:
        """An accumulator of dL/dhidden (D,M), transposed."""
        return torch.zeros_like(self.scaled)

    def pull(self, total: Tensor, block: Tensor, head: Tensor) -> None:
        """total += (block' head)': what a block of gradients or weights says to the states."""
        total.addmm_(head.to(self.dtype).t(), block)

    def rows(self, total: Tensor) -> Tensor:
        """The accumulator as (M,D)."""
        return total.t()

    def push(self, block: Tensor, out: Tensor) -> None:
        """out = block hidden (B,D): the gradient of rows of the head."""
        if out.dtype == self.dtype:
            torch.mm(block, self.hidden, out=out)
        else:
            out.copy_(block @ self.hidden)

    def bias(self, block: Tensor) -> Tensor:
        """(B,): the gradient of entries of the bias."""
        return block.sum(1)

    def _logits(self, e: Tensor, peak: Tensor) -> Tensor:
        return e.clamp(min=torch.finfo(self.dtype).tiny).log_().add_(peak)

    def _banned(self, start: int, size: int) -> list[int]:
        return [v - start for v in self.link.banned if start <= v < start + size]

    def _here(self, start: int, size: int) -> tuple[Tensor, Tensor]:
        rows = self.order[bisect_left(self.sorted, start) : bisect_left(self.sorted, start + size)]
        return rows, self.tokens[rows] - start

    def _buffer(self, name: str, size: int) -> Tensor:
        if name not in self.buffers or len(self.buffers[name]) < size:
            self.buffers[name] = self.scaled.new_empty(size, self.scaled.shape[1])
        return self.buffers[name][:size]
