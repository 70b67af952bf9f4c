"""The records that flow through a run. Shape letters: N rows, T completion tokens, K rewards, S spans, B pairs.

`Task -> Rollout -> Scored -> TokenBatch -> Loss` is the reinforcement path; `PairBatch` and `ScoreBatch` serve
preference losses and reward models. Field names are the closed vocabulary that plug-in signatures read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NT = Float[Tensor, "N T"]
NK = Float[Tensor, "N K"]
N = Float[Tensor, "N"]
K = Float[Tensor, "K"]
Mask = Bool[Tensor, "N T"]
Ids = Int[Tensor, "N"]

Stop = Literal["eos", "length", "tool", "error"]
# What a reward of spans returns for a rollout: one number per span, None where it does not apply.
SpanScores = list[float | None]


@dataclass(frozen=True)
class Media:
    """One image or video of a prompt.

    `path` names a file that is decoded on use; `frames` is a (F,H,W,3) uint8 array that is already there. `start_s` and
    `end_s` cut a window out of a file. `change` names what a contrast does to the frames (media/change.py).
    """

    kind: Literal["image", "video"]
    path: str | None = None
    frames: Any = None
    fps: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    change: str = ""


@dataclass(frozen=True)
class Task:
    """One prompt with all that is known about it. `columns` holds every other column of the dataset."""

    id: str
    prompt: Sequence[Mapping[str, Any]]
    answer: Any = None
    media: tuple[Media, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    demonstration: Any = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """An encoded prompt: token ids, `kinds` (0 text, 1 image, 2 video per token), visual tensors of its media."""

    ids: list[int]
    kinds: list[int] = field(default_factory=list)
    features: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Rollout:
    """One completion (one row). Everything lives on the CPU; `trains`, `gen_logp`, `span`, `source` are per token.

    `span` numbers the pieces that are scored on their own from 0, -1 is in none; their texts are `info["spans"]`.
    A score is a number, a list with a number or None per span, or None.
    """

    task: Task
    group: str
    prompt: Prompt
    tokens: list[int]
    trains: list[bool]
    gen_logp: list[float]
    text: str
    stop: Stop
    parent: int = -1
    fork: int = 0
    trajectory: int = -1
    index: int = 0
    turn: int = 0
    role: str = "policy"
    version: int = 0
    span: list[int] = field(default_factory=list)
    source: list[str] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


@dataclass
class Scored:
    """All rows of all ranks of one optimizer step, no gradient. Optional fields are there when a signature asks.

    A reward may score each span of a row: then `span_rewards` holds the scores, NaN behind the row's last span and in
    the columns of other rewards, and `rewards` their mean over the row's spans. `value` is what a critic expects before
    a token, `returns` what it should have said; NaN where it does not look and where nothing tells.
    """

    rewards: NK
    weights: K
    reward_names: tuple[str, ...]
    group: Ids
    length: Ids
    role: tuple[str, ...]
    stop: tuple[str, ...]
    parent: Ids
    fork: Ids
    trajectory: Ids
    index: Ids
    turn: Ids
    age: Ids
    mask: Mask
    tokens: Int[Tensor, "N T"]
    span: Int[Tensor, "N T"]
    source: tuple[tuple[str, ...], ...]
    gen_logp: NT
    old_logp: NT | None = None
    old_entropy: NT | None = None
    ref_logp: NT | None = None
    teacher_logp: NT | None = None
    value: NT | None = None
    returns: NT | None = None
    span_rewards: Float[Tensor, "N S K"] | None = None
    pair_rewards: Float[Tensor, "N G"] | None = None
    reward: N | None = None
    advantage: NT | None = None
    keep: Bool[Tensor, "N"] | None = None
    token_weight: NT | None = None


@dataclass
class TokenBatch:
    """One micro-batch of rows. `logp` and `entropy` carry the gradient; `weight` is W*M of the objective."""

    tokens: Int[Tensor, "N T"]
    mask: Mask
    logp: NT
    old_logp: NT
    advantage: NT | None  # None outside reinforcement learning
    group: Ids
    entropy: NT | None = None
    old_entropy: NT | None = None
    gen_logp: NT | None = None
    ref_logp: NT | None = None
    teacher_logp: NT | None = None
    ref_divergence: NT | None = None
    teacher_divergence: NT | None = None
    value: NT | None = None
    returns: NT | None = None
    reward: N | None = None
    length: Ids | None = None
    role: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    turn: Ids | None = None
    trajectory: Ids | None = None
    index: Ids | None = None
    age: Ids | None = None
    span: Int[Tensor, "N T"] | None = None
    source: tuple[tuple[str, ...], ...] = ()
    weight: NT | None = None


@dataclass
class PairBatch:
    """B preference pairs; log-probabilities per token with gradient, their reference twins without.

    What is per pair comes from columns of the dataset, such as those of a build.
    """

    chosen_logp: Float[Tensor, "B T"]
    rejected_logp: Float[Tensor, "B T"]
    chosen_mask: Bool[Tensor, "B T"]
    rejected_mask: Bool[Tensor, "B T"]
    ref_chosen_logp: Float[Tensor, "B T"] | None = None
    ref_rejected_logp: Float[Tensor, "B T"] | None = None
    chosen_reward: Float[Tensor, "B"] | None = None
    rejected_reward: Float[Tensor, "B"] | None = None
    chosen_win: Float[Tensor, "B"] | None = None
    rejected_win: Float[Tensor, "B"] | None = None
    margin: Float[Tensor, "B"] | None = None
    weight: Float[Tensor, "B"] | None = None
    label: Float[Tensor, "B"] | None = None
    consistency: Float[Tensor, "B"] | None = None  # how far two rankings of the prompt's answers agree, 0 to 1


@dataclass
class ScoreBatch:
    """Outputs of a reward model: pairs of scores (B,), or scores against targets (N,K)."""

    chosen_score: Float[Tensor, "B"] | None = None
    rejected_score: Float[Tensor, "B"] | None = None
    score: NK | None = None
    target: NK | None = None
    margin: Float[Tensor, "B"] | None = None


class Loss(NamedTuple):
    """An unreduced loss: `value` is (N,T), (N,1) or (B,). `metrics` are detached and averaged with the mask."""

    value: Tensor
    metrics: Mapping[str, Tensor] = {}


class Estimate(NamedTuple):
    """What an advantage that reads `value` returns: the credit, and what the critic should have said (NaN: unknown)."""

    advantage: NT
    returns: NT


@dataclass(frozen=True)
class Counts:
    """What a whole optimizer step holds on all ranks, which aggregation divides by; `valued`: tokens with `returns`."""

    rows: int
    tokens: int
    groups: int
    pairs: int = 0
    micro_batches: int = 1
    valued: int = 0


@dataclass(frozen=True)
class Outcome:
    """What the curriculum learns of one group of completions of one task.

    `angle` is the mean angle concentration of its rows (likelihood/angle.py), None unless the curriculum names it in
    `outcome_fields`: it costs a forward pass.
    """

    task_id: str
    n: int
    mean: float
    std: float
    best: float
    tokens: int
    step: int
    advantages: tuple[float, ...] = ()
    tags: tuple[str, ...] = ()
    angle: float | None = None


def nan_to(values: Tensor, other: float) -> Tensor:
    """`values` with NaN replaced by `other` (NaN means: this reward does not apply to this row)."""
    return torch.where(torch.isnan(values), torch.full_like(values, other), values)
