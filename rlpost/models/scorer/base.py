"""What every second model offers, and what all of them share: order, caching by content, counts and times."""

import base64
import hashlib
import math
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rlpost import ledger
from rlpost.errors import ConfigError
from rlpost.models.download import cache_dir
from rlpost.models.scorer.cache import Cache, key_of
from rlpost.types import Media

# A prompt: messages, or one user turn as plain text; () is no prompt at all (plain language modelling).
Chat = str | Sequence[Mapping[str, Any]]
# A completion: text, or token ids of the scorer's own tokenizer with their stop token.
Text = str | Sequence[int]

RECENT = 10_000  # durations that percentiles are taken over


@dataclass
class Tally:
    """Verdicts asked of a judge over a run, and those that could not be read."""

    asked: int = 0
    unreadable: int = 0


class Scorer(Protocol):
    """A frozen second model. Every method takes a batch and answers in its order; equal items are computed once.

    Raises ConfigError in a sentence where this kind of scorer cannot serve a method.
    """

    tally: Tally

    @property
    def identity(self) -> str:
        """Names the model and its weights; results are cached under it."""
        ...

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        """Log-probability in nats of every completion token given what precedes it, the stop token's last."""
        ...

    def hidden(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> Float[Tensor, "N D"]:
        """Mean over the completion tokens of the last layer's states, float32 on the CPU."""
        ...

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Vectors of length 1 whose inner product is a similarity, float32 on the CPU."""
        ...

    def scalar(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[float]:
        """The score of a reward model, higher is better."""
        ...

    def choice_probs(
        self,
        prompts: Sequence[Chat],
        choices: Sequence[Sequence[str]],
        *,
        media: Sequence[Sequence[Media]] | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Per prompt a softmax over its choices' summed log-probabilities, each a whole answer with its stop token.

        With `media` (those of each prompt's placeholders) or `begun` (per prompt the answer so far) the choices
        continue that answer and have no stop token. Where their first tokens differ the softmax is over those alone.
        """
        ...

    def judge(
        self, prompts: Sequence[Chat], *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        """A reply to each prompt; None where this prompt alone got none, which the ledger counts with the cause."""
        ...

    def stats(self) -> dict[str, float]:
        """Counts and durations so far, such as `judge/items`, `judge/hits` and `judge/p99_s`."""
        ...


@dataclass
class Meter:
    """Counts, and durations in seconds of the latest calls, by name; safe under threads."""

    counts: Counter[str] = field(default_factory=Counter)
    times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=RECENT)))
    lock: Any = field(default_factory=threading.Lock)

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more."""
        with self.lock:
            self.counts[name] += n

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record how long the block took, also where it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self.lock:
                self.times[name].append(time.perf_counter() - start)

    def report(self) -> dict[str, float]:
        """Every count, and the median and the 99th percentile of each duration."""
        with self.lock:
            found = {name: float(count) for name, count in self.counts.items()}
            for name, times in self.times.items():
                found |= {f"{name}/p50_s": percentile(times, 0.5), f"{name}/p99_s": percentile(times, 0.99)}
            return found


def percentile(values: Sequence[float] | deque[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


class Cached:
    """Base of the scorers: computes each distinct item once, in slices, and keeps the results on disk by content."""

    kind = "this scorer"

    def __init__(self, *, cache: bool, cache_mb: float, slice_size: int) -> None:
        if slice_size < 1 or cache_mb <= 0:
            raise ConfigError(f"a scorer needs at least one row at a time and a cache above 0 MB ({cache_mb:g})")
        self.cache = Cache(cache_dir() / "scorer", max_mb=cache_mb) if cache else None
        self.meter, self.tally = Meter(), Tally()
        self._slice = slice_size

    @property
    def identity(self) -> str:
        raise NotImplementedError

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        raise self._cannot("logp", "log-probabilities")

    def hidden(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> Float[Tensor, "N D"]:
        raise self._cannot("hidden", "hidden states")

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        raise self._cannot("embed", "embeddings")

    def scalar(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[float]:
        raise self._cannot("scalar", "scores of a reward head")

    def judge(
        self, prompts: Sequence[Chat], *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        raise self._cannot("judge", "written replies")

    def choice_probs(
        self,
        prompts: Sequence[Chat],
        choices: Sequence[Sequence[str]],
        *,
        media: Sequence[Sequence[Media]] | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Per prompt a softmax over its choices' summed log-probabilities, each a whole answer with its stop token."""
        if media is not None or begun is not None:
            raise self._cannot("choice_probs", "choices after images or after the beginning of an answer")
        pairs = [(prompt, choice) for prompt, own in zip(prompts, choices, strict=True) for choice in own]
        flat = iter(self.logp([prompt for prompt, _ in pairs], [choice for _, choice in pairs]))
        sums = [torch.tensor([math.fsum(next(flat)) for _ in own], dtype=torch.float64) for own in choices]
        return [torch.softmax(one, 0).tolist() for one in sums]

    def stats(self) -> dict[str, float]:
        """Counts and durations so far, such as `judge/items`, `judge/hits` and `judge/p99_s`."""
        return {**self.meter.report(), "cache/errors": float(self.cache.errors if self.cache else 0)}

    def through(
        self, method: str, items: Sequence[Any], params: Any, compute: Callable[[list[int]], Sequence[Any]]
    ) -> list[Any]:
        """The result of every item (plain data that is its whole content), in order.

        `compute` gets the places of items that are new, at most a slice of similar size, and returns plain data; None
        is no result and is not kept.
        """
        keys = [key_of(self.identity, method, params, item) for item in items]
        found = self.cache.get(list(dict.fromkeys(keys))) if self.cache and keys else {}
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            if key not in found:
                first.setdefault(key, place)
        self.meter.add(f"{method}/items", len(keys))
        self.meter.add(f"{method}/hits", sum(key in found for key in keys))
        self.meter.add(f"{method}/misses", len(first))
        todo = sorted(first.values(), key=lambda place: len(str(items[place])), reverse=True)
        for start in range(0, len(todo), self._slice):
            places = todo[start : start + self._slice]
            new = dict(zip((keys[place] for place in places), compute(places), strict=True))
            found |= new
            kept = {key: value for key, value in new.items() if value is not None}
            if self.cache and kept:
                self.cache.put(kept)
        return [found[key] for key in keys]

    def _cannot(self, method: str, what: str) -> ConfigError:
        return ConfigError(f"{self.kind} has no {what} ({method}); configure a scorer that does, such as scorer=local")


def no_reply(cause: str, where: str) -> None:
    """Count a prompt that got no reply."""
    ledger.current().fail(f"judge: {cause}", where)


def messages(chat: Chat) -> list[dict[str, Any]]:
    """A prompt as messages."""
    return [{"role": "user", "content": chat}] if isinstance(chat, str) else [dict(message) for message in chat]


def tail(chat: Chat, limit: int = 80) -> str:
    """The start of a prompt's last message, to name it."""
    return repr(str(messages(chat)[-1].get("content"))[:limit]) if chat else "an empty prompt"


def shown(media: Sequence[Media]) -> list[Any]:
    """Plain data that differs where media do: a file, when it was written and its window, or a digest of the frames."""
    found = []
    for one in media:
        pixels = None if one.frames is None else np.ascontiguousarray(one.frames)
        digest = None if pixels is None else hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        shape = None if pixels is None else list(pixels.shape)
        written = os.stat(one.path).st_mtime_ns if one.path and os.path.isfile(one.path) else 0
        found.append([one.kind, one.path, written, digest, shape, one.fps, one.start_s, one.end_s, one.change])
    return found


def packed(vectors: Tensor) -> list[str]:
    """Rows of a float32 matrix as text, exactly."""
    return [base64.b64encode(row.numpy().tobytes()).decode() for row in vectors.detach().float().cpu().contiguous()]


def unpacked(texts: Sequence[str]) -> Float[Tensor, "N D"]:
    """The matrix whose rows `packed` wrote."""
    if not texts:
        return torch.zeros(0, 0)
    return torch.stack([torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.float32) for text in texts])


def unit(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Rows scaled to length 1; a row of zeros stays."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
