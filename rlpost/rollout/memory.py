"""What decoding remembers of the prompts: one copy that all completions of a prompt read, or a copy for each row."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from rlpost.errors import ModelError

NAME = "rlpost_forked"
# Steps of room that a row starts with; it doubles when it is full.
ROOM = 32


class Memory(Protocol):
    """Keys and values of the rows that are still being written."""

    def keep(self, slots: Tensor) -> None:
        """Forget all rows but those at `slots`."""
        ...

    def inputs(self) -> dict[str, Any]:
        """What the model takes for the next token of every row."""
        ...


@contextmanager
def remembered(model: Any, cache: Any, attention: Tensor, rows: Tensor) -> Iterator[Memory]:
    """The memory of decoding after a prefill of B prompts, for rows (N,) that each continue the prompt of that index.

    `attention` is the (B,P) mask of the prompts. Keys and values of the prompts are shared where every layer attends
    to all positions, in torch's own attention and in float32 or better: the shared scores are a plain product, which
    bfloat16 would round. Elsewhere (windows, linear attention, other kernels) every row gets a copy.
    """
    config = model.config.get_text_config()
    wide = model.dtype in (torch.float32, torch.float64)
    plain = all(type(layer) is DynamicLayer for layer in cache.layers)
    if not (wide and plain and config._attn_implementation == "sdpa" and model._supports_attention_backend):
        yield Copied(cache, attention, rows)
        return
    AttentionInterface.register(NAME, attend)
    config._attn_implementation = NAME
    try:
        yield Forked(cache, attention, rows)
    finally:
        config._attn_implementation = "sdpa"


class Copied:
    """Every row holds its own copy of its prompt, in the cache of transformers."""

    def __init__(self, cache: Any, attention: Tensor, rows: Tensor):
        self.cache, self.attention = cache, attention
        self.keep(rows)

    def keep(self, slots: Tensor) -> None:
        # Unlike the batch_* methods of a cache, this one is there for the states of linear attention too.
        self.cache.reorder_cache(slots)
        self.attention = self.attention[slots]

    def inputs(self) -> dict[str, Any]:
        self.attention = torch.nn.functional.pad(self.attention, (0, 1), value=1)
        return {"past_key_values": self.cache, "attention_mask": self.attention}


class Forked:
    """One copy of each prompt; a row holds only what it wrote itself. `group` and `place` say where a row belongs."""

    def __init__(self, cache: Any, attention: Tensor, rows: Tensor):
        self.layers = [_Layer(layer.keys, layer.values, len(rows)) for layer in cache.layers]
        self.cache, self.seen = Cache(layers=[*self.layers]), attention.bool()
        self._arrange(rows)

    def keep(self, slots: Tensor) -> None:
        for layer in self.layers:
            layer.own_keys, layer.own_values = layer.own_keys[slots], layer.own_values[slots]
        self._arrange(self.group[slots])

    def inputs(self) -> dict[str, Any]:
        return {"past_key_values": self.cache, "forked": self}

    def _arrange(self, group: Tensor) -> None:
        """Number the rows within their prompt and forget the prompts that no row continues."""
        used, self.group = group.unique(return_inverse=True)
        if len(used) < len(self.seen):
            self.seen = self.seen[used]
            for layer in self.layers:
                layer.prompt_keys, layer.prompt_values = layer.prompt_keys[used], layer.prompt_values[used]
        member = torch.nn.functional.one_hot(self.group, len(used))
        self.place = member.cumsum(0).gather(1, self.group[:, None])[:, 0] - 1
        self.places = int(member.sum(0).max())
        # Whole groups side by side, as sampling starts: a view does what indices do otherwise.
        self.even = torch.equal(self.group, torch.arange(len(used)).to(group).repeat_interleave(self.places))
        self.padding = None if self.seen.all() else ~self.seen[self.group][:, None, None]

    def together(self, x: Tensor) -> Tensor:
        """(N,K,R,W) of the rows as (B,K,places*R,W) of the prompts; places without a row hold zeros."""
        _, shared, repeats, width = x.shape
        if self.even:
            out = x.view(len(self.seen), self.places, shared, repeats, width)
        else:
            out = x.new_zeros(len(self.seen), self.places, shared, repeats, width)
            out[self.group, self.place] = x
        return out.transpose(1, 2).reshape(len(self.seen), shared, self.places * repeats, width)

    def apart(self, x: Tensor) -> Tensor:
        """The inverse of `together`."""
        prompts, shared, _, width = x.shape
        x = x.view(prompts, shared, self.places, -1, width)
        return x.transpose(1, 2).flatten(0, 1) if self.even else x[self.group, :, self.place]


class _Layer(CacheLayerMixin):
    """Keys and values of one layer: (B,K,P,D) of the prompts, and (N,K,room,D) of what the rows wrote after them."""

    def __init__(self, keys: Tensor, values: Tensor, rows: int):
        super().__init__()
        self.prompt_keys, self.prompt_values, self.written = keys, values, 0
        self.own_keys, self.own_values = (x.new_empty(rows, x.shape[1], ROOM, x.shape[3]) for x in (keys, values))
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing: a layer starts with its prompts."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values (N,K,1,D) in place; gives all that the rows wrote."""
        at = slice(self.written, self.written + 1)
        if self.written == self.own_keys.shape[2]:
            self.own_keys, self.own_values = (
                torch.cat([x, torch.empty_like(x)], 2) for x in (self.own_keys, self.own_values)
            )
        self.own_keys[:, :, at], self.own_values[:, :, at] = key_states, value_states
        self.written += 1
        return self.own_keys[:, :, : self.written], self.own_values[:, :, : self.written]

    def get_seq_length(self) -> int:
        return self.prompt_keys.shape[2] + self.written

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    forked: Forked,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row: `query` (N,H,1,D) over the row's prompt and over its own `key` (N,K,T,D).

    The queries of all rows of a prompt form one matrix, so that its keys and values are read once and not per row.
    Raises ModelError for a position bias, which a prompt's rows do not share.
    """
    if position_bias is not None:
        raise ModelError(f"{type(module).__name__} adds a position bias; set model.attn_implementation=eager")
    rows, heads, _one, width = query.shape
    layer, shared = forked.layers[module.layer_idx], key.shape[1]
    q = query.reshape(rows, shared, heads // shared, width) * (width**-0.5 if scaling is None else scaling)
    before = forked.apart(forked.together(q) @ layer.prompt_keys.mT)
    if forked.padding is not None:
        before = before.masked_fill(forked.padding, float("-inf"))
    weights = torch.cat([before, q @ key.mT], -1).softmax(-1)
    seen, own = weights.split([before.shape[-1], key.shape[2]], -1)
    found = forked.apart(forked.together(seen) @ layer.prompt_values) + own @ value
    return found.reshape(rows, 1, heads, -1), None
