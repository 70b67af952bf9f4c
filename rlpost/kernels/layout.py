"""Where a packed row holds its prompts and completions: `[p1 .. pB | c11 .. c1G | c21 ..]`, one row for all groups."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

Span = tuple[int, int]
States = dict[int, tuple[Tensor, Tensor]]


class Table(NamedTuple):
    """Completions of a group as rows of equal width: `index` (n*C,) into the group's columns, `back` (columns,)."""

    rows: int
    width: int
    index: Tensor | None  # None where all completions are equally long: a reshape does
    back: Tensor | None


@dataclass
class Layout:
    """Lengths of the prompts and, per prompt, of its completions; the columns of a packed row in that order.

    `states` is None where the row holds the prompts. Otherwise the row holds completions only, and `states` has the
    keys and values (1,H,P,d) of all prompts by layer. `record` collects those of a row that holds prompts.
    """

    prompts: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    states: States | None = None
    record: States | None = None
    calls: int = 0  # attention layers that heeded this layout: a model that ignores it is wrong silently
    _cache: dict = field(default_factory=dict, repr=False)

    @property
    def prompt_columns(self) -> int:
        """Columns of all prompts together."""
        return sum(self.prompts)

    @cached_property
    def prompt_spans(self) -> list[Span]:
        """Columns of each prompt among the prompts."""
        return _spans(self.prompts)

    @cached_property
    def group_spans(self) -> list[Span]:
        """Columns of each group's completions, counted from the first completion."""
        return _spans([sum(lengths) for lengths in self.completions])

    def without_completions(self) -> "Layout":
        """The layout of the prompts alone, recording their keys and values."""
        return Layout(self.prompts, ((),) * len(self.prompts), record={})

    def chunks(self, rows: int, states: States) -> list[tuple["Layout", Span]]:
        """Layouts of at most `rows` completions each, reading `states`, with their columns among the completions."""
        flat = [(group, length) for group, lengths in enumerate(self.completions) for length in lengths]
        found, start = [], 0
        for first in range(0, len(flat), rows):
            part = flat[first : first + rows]
            lengths = tuple(tuple(n for g, n in part if g == group) for group in range(len(self.prompts)))
            stop = start + sum(n for _, n in part)
            if stop > start:
                found.append((replace(self, completions=lengths, states=states, record=None, _cache={}), (start, stop)))
            start = stop
        return found

    def table(self, group: int, device: torch.device) -> Table:
        """How to lay a group's completions side by side as rows."""
        return self._once(("table", group, device), lambda: _table(self.completions[group], device))

    def mask(self, group: int, first: int, window: int | None, device: torch.device) -> Tensor:
        """(C, P - first + C) bool: what a completion column sees of its prompt from column `first`, and of itself."""

        def make() -> Tensor:
            length, width = self.prompts[group], max(self.completions[group])
            query = length + torch.arange(width, device=device)[:, None]
            other = torch.cat([torch.arange(first, length), length + torch.arange(width)]).to(device)
            seen = other <= query
            return seen if window is None else seen & (query - other < window)

        return self._once(("mask", group, first, window, device), make)

    def cumulative(self, what: str, device: torch.device) -> tuple[Tensor, int]:
        """Cumulative int32 lengths and an upper bound of them, as variable-length attention takes them.

        `what` is "prompts", "groups" (each group's completions as one sequence) or "completions". The bound is 2 or
        more: told that no sequence has more than one query, flash attention with shared key heads takes each to have
        exactly one, and fails on a group without columns.
        """

        def make() -> tuple[Tensor, int]:
            lengths = {
                "prompts": list(self.prompts),
                "groups": [sum(one) for one in self.completions],
                "completions": [n for one in self.completions for n in one if n],
            }[what]
            ends = list(itertools.accumulate(lengths, initial=0))
            return torch.tensor(ends, dtype=torch.int32, device=device), max([2, *lengths])

        return self._once((what, device), make)

    def _once(self, key, make):
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]


def _spans(lengths: Sequence[int]) -> list[Span]:
    return list(itertools.pairwise(itertools.accumulate(lengths, initial=0)))


def _table(lengths: Sequence[int], device: torch.device) -> Table:
    filled = [n for n in lengths if n]
    width = max(filled)
    if min(filled) == width:
        return Table(len(filled), width, None, None)
    starts = torch.tensor([a for a, _ in _spans(filled)])
    sizes, step = torch.tensor(filled), torch.arange(width)
    # A missing column repeats the last one of its row; nothing reads it back.
    index = starts[:, None] + torch.minimum(step[None], sizes[:, None] - 1)
    back = torch.cat([row * width + torch.arange(n) for row, n in enumerate(filled)])
    return Table(len(filled), width, index.flatten().to(device), back.to(device))
