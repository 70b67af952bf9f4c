"""H1 to H5 on a GPU: log-probability and entropy from hidden states, against TRL's own function.

None of this has been run yet, and the targets in milliseconds are estimates for an H200.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlpost.kernels import linear_logp
from scripts.bench import heads
from scripts.bench.cuda import race
from scripts.bench.record import Case, Times, apart, largest

# Tokens, width, vocabulary.
SHAPES = ((8192, 2048, 151936), (8192, 4096, 151936), (32768, 896, 151936))
# The rows that are compared with float32, and bfloat16's rounding of a logit relative to the largest value.
CHECKED, BOUND = 256, 2e-2
# Sustained bfloat16 operations of an H200 in a second, from published pipelines.
PEAK = 790e12


class Head:
    """Random states, head and labels of a shape in bfloat16, and a step through either function."""

    def __init__(self, shape: tuple[int, int, int], *, frozen: bool = False, half: bool = False, device: str = "cuda"):
        rows, width, words = shape
        draw = torch.Generator(device=device).manual_seed(0)
        make: dict[str, Any] = {"device": device, "generator": draw}
        self.hidden = torch.randn(rows, width, **make).bfloat16().requires_grad_()
        self.head = (0.02 * torch.randn(words, width, **make)).bfloat16().requires_grad_(not frozen)
        self.tokens = torch.randint(0, words, (rows,), **make)
        self.weight, self.slope = torch.randn(rows, **make), 1e-3 * torch.randn(rows, **make)
        if half:
            self.weight[: rows // 2] = self.slope[: rows // 2] = 0.0

    def step(self, function: heads.Head) -> tuple[Tensor, Tensor]:
        """Forward and backward of weighted log-probabilities and entropies."""
        self.hidden.grad = self.head.grad = None
        logp, entropy = function(self.hidden, self.head, self.tokens)
        ((logp * self.weight).sum() + (entropy * self.slope).sum()).backward()
        return logp, entropy

    def error(self, function: heads.Head) -> float:
        """Values and the states' gradient of some rows against float32."""
        logp, entropy = self.step(function)
        rows = slice(len(self.tokens) // 2 - CHECKED // 2, len(self.tokens) // 2 + CHECKED // 2)
        hidden = self.hidden.detach()[rows].float().requires_grad_()
        table = torch.log_softmax(hidden @ self.head.detach().float().T, -1)
        wanted = table.gather(-1, self.tokens[rows][:, None])[:, 0], -(table.exp() * table).sum(-1)
        ((wanted[0] * self.weight[rows]).sum() + (wanted[1] * self.slope[rows]).sum()).backward()
        pairs = (logp[rows], wanted[0]), (entropy[rows], wanted[1]), (self.hidden.grad[rows], hidden.grad)
        return largest(*(apart({"": a.detach()}, {"": b.detach()}) for a, b in pairs))

    def peak(self, function: heads.Head) -> float:
        """Mebibytes allocated beyond what was there before the step."""
        self.hidden.grad = self.head.grad = None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step(function)
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def step(goals: tuple[tuple[float, float], ...], **how: bool) -> Callable[[int], list[Case]]:
    """H1, H2 and H4: forward and backward of each shape, with the target and stretch of each."""

    def measure(repeats: int) -> list[Case]:
        cases = []
        for shape, (target, stretch) in zip(SHAPES, goals, strict=True):
            given = Head(shape, **how)
            error = given.error(linear_logp)
            times = race({"o": lambda h=given: h.step(linear_logp), "t": lambda h=given: h.step(heads.theirs)}, repeats)
            cases.append(_case(shape, error, target, stretch, times))
        return cases

    return measure


def _case(shape: tuple[int, int, int], error: float, target: float, stretch: float, times: Times) -> Case:
    name = "N={} D={} V={}".format(*shape)
    note = f"bfloat16 on {torch.cuda.get_device_name()}; the targets in milliseconds are for an H200"
    return Case(name, error, BOUND, target, stretch, times.ms["o"], times.ms["t"], times.spread, note)


def no_gradient(repeats: int) -> list[Case]:
    """H3: the limit is one matrix product; the target 1.15 of it."""
    cases = []
    for shape in SHAPES:
        given, limit = Head(shape), 2e3 * shape[0] * shape[1] * shape[2] / PEAK

        def forward(function: heads.Head, given: Head = given) -> None:
            with torch.no_grad():
                function(given.hidden, given.head, given.tokens)

        error = given.error(linear_logp)
        times = race({"o": lambda f=forward: f(linear_logp), "t": lambda f=forward: f(heads.theirs)}, repeats)
        cases.append(_case(shape, error, 1.15 * limit, 1.07 * limit, times))
    return cases


def memory(repeats: int) -> list[Case]:
    """H5: at most bfloat16 logits and float32 gradients of head and states; the stretch is what TRL allocates."""
    cases = []
    for shape in SHAPES:
        given = Head(shape)
        error, other, mine = given.error(linear_logp), given.peak(heads.theirs), given.peak(linear_logp)
        budget = (2 * shape[0] * shape[2] + 4 * shape[1] * (shape[0] + shape[2])) / 2**20
        name, note = "N={} D={} V={}".format(*shape), f"TRL {other:.0f} MiB"
        cases.append(Case(name, error, BOUND, budget, other, note=note, memory_mib=mine))
    return cases
