"""C1 to C4: log-probabilities from hidden states, forward and backward, against TRL's own functions."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from trl.kernels.chunked_logprob import ChunkedLogProbFunction
from trl.trainer.utils import add_fused_lm_head

from rlpost.kernels import linear_logp
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, teach
from scripts.bench import models
from scripts.bench.record import Case, apart, gradients, largest, race

# The tile that TRL's head uses by default.
TILE = 32768
# Tokens, width, vocabulary.
SHAPE = (512, 896, 32768)
# Float32 sums over 896 products and 32768 exponentials: a few hundred times 6e-8, far below what a wrong term would do.
BOUND = 2e-5

Head = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def theirs(hidden: Tensor, head: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """TRL's function: per-token log-probabilities and entropies."""
    found = ChunkedLogProbFunction.apply(hidden, head, None, tokens, 1.0, TILE, None, 1.0, ("entropy",))
    return found[0], found[1]


def reference(hidden: Tensor, head: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """All logits at once, in float64."""
    logp = torch.log_softmax(hidden.double() @ head.double().T, -1)
    return logp.gather(-1, tokens[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def tuned(repeats: int) -> list[Case]:
    """C1: the head trains."""
    return [_case("head trains", repeats, frozen=False, half=False, target=1.45, stretch=1.8)]


def frozen(repeats: int) -> list[Case]:
    """C2: the head is frozen, as under LoRA."""
    return [_case("head frozen", repeats, frozen=True, half=False, target=1.7, stretch=2.3)]


def half_zero(repeats: int) -> list[Case]:
    """C3: half of the tokens have weight zero, as those of groups without spread do."""
    return [_case("half the weights 0", repeats, frozen=False, half=True, target=2.0, stretch=2.6)]


def _case(name: str, repeats: int, *, frozen: bool, half: bool, target: float, stretch: float) -> Case:
    tokens, width, words = SHAPE
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, width, generator=draw).requires_grad_()
    head = (0.02 * torch.randn(words, width, generator=draw)).requires_grad_(not frozen)
    labels = torch.randint(0, words, (tokens,), generator=draw)
    weight = torch.randn(tokens, generator=draw)
    if half:
        weight[torch.randperm(tokens, generator=draw)[: tokens // 2]] = 0.0

    def step(function: Head) -> tuple[Tensor, Tensor]:
        hidden.grad = head.grad = None
        logp, entropy = function(hidden, head, labels)
        (logp * weight.to(logp.dtype)).sum().backward()
        return logp, entropy

    def answer(function: Head) -> dict[str, dict[str, Tensor]]:
        logp, entropy = step(function)
        found = {"logp": {"": logp.detach()}, "entropy": {"": entropy.detach()}}
        return found | {n: {"": t.grad} for n, t in (("hidden", hidden), ("head", head)) if t.grad is not None}

    exact = answer(reference)
    ours, other = (_worst(answer(function), exact) for function in (linear_logp, theirs))
    times = race({"ours": lambda: step(linear_logp), "theirs": lambda: step(theirs)}, repeats)
    return Case(
        name,
        ours,
        BOUND,
        target,
        stretch,
        times.ms["ours"],
        times.ms["theirs"],
        times.spread,
        f"N={tokens} D={width} V={words} float32; error against float64, of the largest entry; TRL's: {other:.1e}",
    )


def _worst(found: dict[str, dict[str, Tensor]], wanted: dict[str, dict[str, Tensor]]) -> float:
    return largest(*(apart(found[name], wanted[name]) for name in wanted))


def scored_rows(repeats: int) -> list[Case]:
    """C4: a whole model step, where TRL's head runs on every position and ours on those that are scored."""
    length, answer, rows, words = 512, 32, 2, 32768
    mine = models.llama(vocabulary=words).model
    other = copy.deepcopy(mine)
    teach(mine)
    add_fused_lm_head(other, outputs=("log_probs", "entropy"))
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, words, (rows, length + answer), generator=draw)
    labels = ids.masked_fill(torch.arange(length + answer) < length, -100)
    weight = torch.randn(rows, answer, generator=draw)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    asked = Rows(inputs, Ask(torch.ones(rows, answer, dtype=torch.bool)))

    def ours_step() -> Tensor:
        mine.zero_grad()
        logp = causal(mine, asked).logp
        (logp * weight).sum().backward()
        return logp.detach()

    def theirs_step() -> Tensor:
        other.zero_grad()
        logp = other(**inputs, labels=labels, fused_lm_head=True).log_probs[:, -answer:]
        (logp * weight).sum().backward()
        return logp.detach()

    values = apart({"": ours_step()}, {"": theirs_step()})
    error = largest(values, apart(gradients(mine), gradients(other)))
    times = race({"ours": ours_step, "theirs": theirs_step}, repeats)
    note = f"P={length} C={answer} {rows} rows V={words} float32; error: log-probabilities and gradients against TRL's"
    return [Case("Llama", error, 1e-4, 4.0, 5.5, times.ms["ours"], times.ms["theirs"], times.spread, note)]
