"""H1 to H10 on the GPU at hand, with CUDA events: `make bench-gpu`.

None of this has been run yet: it was written on a machine without a GPU, and the targets are estimates for an H200.
What has no measurement raises `NotMeasured` with the reason, so that no figure can stand in for it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlpost.kernels import linear_logp
from rlpost.likelihood.scoring import teach
from rlpost.models.encode import Bundle, Encoder
from rlpost.models.tiny import byte_tokenizer
from scripts.bench import generation, heads, models, sharing
from scripts.bench.record import Case, Goal, NotMeasured, Run, Times, apart, gradients, largest

# Tokens, width, vocabulary.
SHAPES = ((8192, 2048, 151936), (8192, 4096, 151936), (32768, 896, 151936))
# The rows that are compared with float32, and bfloat16's rounding of a logit relative to the largest value.
CHECKED, BOUND = 256, 2e-2
# Sustained bfloat16 operations of an H200 in a second, from published pipelines.
PEAK = 790e12


def missing() -> str:
    """Why nothing can be measured here, in a sentence; empty where it can."""
    return "" if torch.cuda.is_available() else "no CUDA GPU is at hand; make bench-gpu measures H1 to H10 on one"


def race(runs: dict[str, Run], repeats: int) -> Times:
    """The runs take turns; milliseconds between two events on the device, fastest of `repeats` after two to warm up."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 2):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            run()
            end.record()
            torch.cuda.synchronize()
            if number >= 2:
                found[name].append(start.elapsed_time(end))
    return Times({n: min(ms) for n, ms in found.items()}, max(max(ms) / min(ms) for ms in found.values()))


# --- H1 to H5: the head -------------------------------------------------------------------------------------


class Head:
    """Random states, head and labels of a shape in bfloat16, and a step through either function."""

    def __init__(self, shape: tuple[int, int, int], *, frozen: bool = False, half: bool = False):
        rows, width, words = shape
        draw = torch.Generator(device="cuda").manual_seed(0)
        make: dict[str, Any] = {"device": "cuda", "generator": draw}
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


def _heads(goals: tuple[tuple[float, float], ...], **how: bool) -> Callable[[int], list[Case]]:
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


# --- H6 and H10: a model of the size of Qwen3-4B ------------------------------------------------------------


def _large() -> Bundle:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.device("cuda"):
        model = Qwen3ForCausalLM._from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    return Bundle(model, Encoder(tokenizer, stop_ids=[models.NEVER]), "Qwen3-4B", "built from its configuration")


def shared_prompt(repeats: int) -> list[Case]:
    """H6: update step of a group against the fastest micro-batches without sharing; activations are recomputed."""
    bundle = _large()
    teach(bundle.model)
    bundle.model.train().activation_checkpointing_enable({"use_reentrant": False})
    return [_shared_case(bundle, length, repeats) for length in (4096, 8192)]


def _shared_case(bundle: Bundle, length: int, repeats: int) -> Case:
    group = sharing.group_of(bundle, length, answer=256)
    group = sharing.Group(group.prompt, group.answers, group.weight.cuda())
    limit = sharing.bound(bundle.model.config, length, 256, sharing.MEMBERS)
    wanted, slopes = sharing.naive_step(bundle, group, 1), gradients(bundle.model)
    found = sharing.shared_step(bundle, group)
    # Through 36 layers in bfloat16: C7 has the comparison in float64.
    error = largest(apart({"": found}, {"": wanted}), apart(gradients(bundle.model), slopes))
    del slopes
    runs: dict[str, Run] = {f"{m} rows": lambda m=m: sharing.naive_step(bundle, group, m) for m in (1, 2, 4)}
    times = race({"o": lambda: sharing.shared_step(bundle, group), **runs}, repeats)
    best = min(runs, key=lambda one: times.ms[one])
    note = f"C=256 G={sharing.MEMBERS} bfloat16; fastest without sharing: {best} at a time"
    ms = times.ms
    return Case(f"P={length}", error, 0.1, 0.85 * limit, 0.95 * limit, ms["o"], ms[best], times.spread, note)


def generated(repeats: int) -> list[Case]:
    """H10: a group from one prefill against the prompt repeated. That greedy tokens agree is shown, not demanded."""
    bundle = _large()
    bundle.model.eval()
    prompt = models.prompt(bundle, 8192)
    size = {"answer": 256}
    apart_by = generation.differing(
        generation.ours(bundle, prompt, 0.0, **size), generation.theirs(bundle, prompt, 0.0, **size)
    )
    runs: dict[str, Run] = {
        "o": lambda: generation.ours(bundle, prompt, 1.0, **size),
        "t": lambda: generation.theirs(bundle, prompt, 1.0, **size),
    }
    times = race(runs, repeats)
    note = (
        f"{apart_by:.1%} of greedy tokens differ: near ties fall either way in bfloat16, C8 compares in float64; "
        "the stretch, transformers' continuous batching with forks, is not measured"
    )
    return [Case("P=8192 C=256 G=8", apart_by, 1.0, 3.0, 3.0, times.ms["o"], times.ms["t"], times.spread, note)]


def _not_yet(reason: str) -> Callable[[int], list[Case]]:
    def measure(repeats: int) -> list[Case]:
        raise NotMeasured(reason)

    return measure


GOALS: dict[str, Goal] = {
    "H1": Goal("log-probability and entropy, forward and backward", "ms", _heads(((22.5, 20.5), (43, 40.5), (42, 37)))),
    "H2": Goal("the same with a frozen head", "ms", _heads(((15, 13.8), (29, 27), (30, 25)), frozen=True)),
    "H3": Goal("log-probabilities without gradient", "ms", no_gradient),
    "H4": Goal("half of the weights zero", "ratio", _heads(((1.8, 2.1),) * 3, half=True)),
    "H5": Goal("peak memory of the head beyond its inputs", "mib", memory),
    "H6": Goal("shared prompt, text: forward and backward", "ratio", shared_prompt),
    "H7": Goal("shared prompt against a Flex mask", "ratio", _not_yet("no Flex baseline is written")),
    "H8": Goal("shared video, whole update", "ratio", _not_yet("TRL 1.16 has no video in GRPO to be held against")),
    "H9": Goal(
        "groups without spread", "ratio", _not_yet("no comparison of whole updates with such groups is written")
    ),
    "H10": Goal("generation of a group", "ratio", generated),
}
