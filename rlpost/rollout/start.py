"""Tokens of a completion that are there before the policy writes, with who wrote them and whether they train."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlpost.types import Rollout


@dataclass(frozen=True)
class Start:
    """Per token: its id, whether it trains, its sampler's log-probability (nats), and its source.

    Tokens that no sampler of this run wrote have log-probability 0, as if they had been certain: what compares the
    sampler with the policy (`tis`) sees the policy's own probability there.
    """

    tokens: Sequence[int] = field(default_factory=list)
    trains: Sequence[bool] = field(default_factory=list)
    logp: Sequence[float] = field(default_factory=list)
    source: Sequence[str] = field(default_factory=list)

    @classmethod
    def given(
        cls, tokens: Sequence[int], source: str, *, trains: bool = False, logp: Sequence[float] | None = None
    ) -> "Start":
        """Tokens of one source that all train, or none."""
        n = len(tokens)
        return cls(list(tokens), [trains] * n, [0.0] * n if logp is None else list(logp), [source] * n)

    @classmethod
    def of(cls, row: Rollout, n: int, *, trains: bool = True) -> "Start":
        """The first `n` tokens of a row as they are; with `trains` False none of them trains."""
        kept = row.trains[:n] if trains else [False] * len(row.tokens[:n])
        return cls(row.tokens[:n], kept, row.gen_logp[:n], row.source[:n])

    def __add__(self, other: "Start") -> "Start":
        return Start(
            [*self.tokens, *other.tokens],
            [*self.trains, *other.trains],
            [*self.logp, *other.logp],
            [*self.source, *other.source],
        )
