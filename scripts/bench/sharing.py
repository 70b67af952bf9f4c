"""C5 to C7: one forward and backward of a group whose prompt is shared, against one row per completion.

`shared_step` and `naive_step` are all that knows how rows are built; the goals only time and compare them.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlpost.kernels import prefix
from rlpost.kernels.layout import Layout
from rlpost.likelihood import scoring
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, teach
from rlpost.models.encode import Bundle
from rlpost.models.positions import position_ids
from rlpost.types import Prompt
from scripts.bench import models
from scripts.bench.record import Case, apart, fastest, gradients, largest, race

ANSWER, MEMBERS = 32, 8
MICRO = (1, 2, 4, 8)
# Float32 through four layers; a wrong mask or position gives errors of the size of the values themselves.
BOUND = 1e-4


@dataclass(frozen=True)
class Group:
    """A prompt with its completions and the weight of each of their tokens in the loss."""

    prompt: Prompt
    answers: list[list[int]]
    weight: Tensor


def group_of(bundle: Bundle, length: int, *, answer: int = ANSWER, members: int = MEMBERS, **medium: Any) -> Group:
    """A prompt of `length` tokens, with a medium as `models.prompt` takes it, and completions of `answer` tokens."""
    draw = torch.Generator().manual_seed(2)
    answers = torch.randint(300, models.VOCABULARY, (members, answer), generator=draw).tolist()
    weight = torch.randn(members, answer, generator=draw, dtype=torch.float64)
    return Group(models.prompt(bundle, length, **medium), answers, weight)


def shared_step(bundle: Bundle, group: Group, spoil: str = "") -> Tensor:
    """Log-probabilities (G,C) of the group in one row, after the backward pass of their weighted sum."""
    rows = _spoiled(shared_rows(bundle, group), group, spoil)
    bundle.model.zero_grad()
    with _detached(bundle.model, len(group.prompt.ids)) if spoil == "detached" else contextlib.nullcontext():
        logp = causal(bundle.model, rows).logp
    (logp * group.weight.to(logp)).sum().backward()
    return logp.detach()


def shared_rows(bundle: Bundle, group: Group) -> Rows:
    """The packed row of the group and what is asked of it."""
    device = next(bundle.model.parameters()).device
    mask = torch.ones(group.weight.shape, dtype=torch.bool, device=device)
    prompts = [group.prompt] * len(group.answers)
    rows = prefix.pack(bundle.model, bundle.encoder, prompts, group.answers, mask, device)
    return Rows(cast(rows.inputs, bundle.model), rows.ask)


def naive_step(bundle: Bundle, group: Group, micro: int) -> Tensor:
    """The same with one row per completion, `micro` rows at a time."""
    model, parts = bundle.model, []
    device = next(model.parameters()).device
    model.zero_grad()
    for start in range(0, len(group.answers), micro):
        answers = group.answers[start : start + micro]
        inputs = bundle.encoder.collate([group.prompt] * len(answers), answers)
        inputs = cast({name: value.to(device) for name, value in inputs.items()}, model)
        inputs["position_ids"] = position_ids(model, inputs)
        mask = torch.ones(len(answers), len(answers[0]), dtype=torch.bool, device=device)
        logp = causal(model, Rows(inputs, Ask(mask))).logp
        (logp * group.weight[start : start + micro].to(logp)).sum().backward()
        parts.append(logp.detach())
    return torch.cat(parts)


def cast(inputs: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The inputs with pixels and times in the model's dtype."""
    return {name: v.to(model.dtype) if v.is_floating_point() else v for name, v in inputs.items()}


def bound(config: Any, length: int, answer: int, members: int) -> float:
    """How many times fewer operations a shared prompt needs: layers, attention and head, matrix products only."""
    width, layers = config.hidden_size, config.num_hidden_layers
    share = config.num_key_value_heads / config.num_attention_heads
    linear = 2 * layers * (2 * width**2 * (1 + share) + 3 * width * config.intermediate_size)
    attention = 4 * width * layers
    head = 2 * width * config.vocab_size * members * answer
    alone = members * ((length + answer) * linear + attention * (length + answer) ** 2 / 2)
    pairs = length**2 / 2 + members * length * answer + members * answer**2 / 2
    return (alone + head) / ((length + members * answer) * linear + attention * pairs + head)


def text(repeats: int) -> list[Case]:
    """C5: a text model; the target is 0.9 of the ratio of operations, which is the limit and the stretch."""
    bundle = models.llama()
    teach(bundle.model)
    cases = []
    for length in (512, 2048):
        limit = bound(bundle.model.config, length, ANSWER, MEMBERS)
        cases.append(_case(bundle, f"Llama P={length}", length, repeats, 0.9 * limit, limit))
    return cases


def vision(repeats: int) -> list[Case]:
    """C6: vision-language models, whose tower runs once instead of once per completion."""
    cases = []
    for family in ("qwen2_5_vl", "qwen3_vl"):
        bundle = models.vision(family)
        teach(bundle.model)
        cases.append(_case(bundle, f"{family} P=512, 400 visual", 512, repeats, 5.0, 7.0))
    return cases


def _case(bundle: Bundle, name: str, length: int, repeats: int, target: float, stretch: float) -> Case:
    group = group_of(bundle, length)
    wanted, slopes = naive_step(bundle, group, MICRO[0]), gradients(bundle.model)
    found = shared_step(bundle, group)
    error = largest(apart({"": found}, {"": wanted}), apart(gradients(bundle.model), slopes))
    # Seconds per repetition at the longer prompt: there one candidate goes on.
    naive = fastest({f"{m} rows": lambda m=m: naive_step(bundle, group, m) for m in MICRO}, 2 if length < 1000 else 1)
    times = race({"shared": lambda: shared_step(bundle, group), **naive}, repeats)
    best = min(naive, key=lambda one: times.ms[one])
    note = f"C={ANSWER} G={MEMBERS} float32; fastest without sharing: {best} at a time"
    return Case(name, error, BOUND, target, stretch, times.ms["shared"], times.ms[best], times.spread, note)


# --- C7 -----------------------------------------------------------------------------------------------------

FAMILIES = ("llama", "qwen2_5_vl", "qwen3_vl")
CONTROLS = ("unreset", "late", "causal", "detached")
# A layout that is wrong must differ by at least this much, or the comparison could not have seen it.
WRONG = 1e-3


def exact(repeats: int) -> list[Case]:
    """C7: sharing in float64, log-probabilities and all gradients; four wrong layouts must be seen."""
    cases = []
    for family in FAMILIES:
        bundle = models.llama(layers=3, width=128) if family == "llama" else models.vision(family, layers=3, width=128)
        teach(bundle.model)
        group = group_of(bundle, 96, answer=12, members=4, grid=(1, 8, 8))
        with models.float64(bundle.model), _float64_head():
            for saving in (False, True):
                _checkpointing(bundle.model, saving)
                wanted, slopes = naive_step(bundle, group, len(group.answers)), gradients(bundle.model)
                error = _error(bundle, group, wanted, slopes)
                name = f"{family}, checkpointing {'on' if saving else 'off'}"
                seen = {c: _error(bundle, group, wanted, slopes, c) for c in CONTROLS}
                blind = [control for control, found in seen.items() if found < WRONG]
                note = "wrong layouts: " + ", ".join(f"{control} {found:.1e}" for control, found in seen.items())
                if blind:
                    error, note = float("nan"), f"the comparison cannot see {', '.join(blind)}; {note}"
                cases.append(Case(name, error, 1e-9, 1e-9, 1e-12, note=note))
    return cases


def _error(bundle: Bundle, group: Group, wanted: Tensor, slopes: dict[str, Tensor], spoil: str = "") -> float:
    found = shared_step(bundle, group, spoil)
    return largest(apart({"": found}, {"": wanted}), apart(gradients(bundle.model), slopes))


def _checkpointing(model: Any, on: bool) -> None:
    if on:
        model.activation_checkpointing_enable({"use_reentrant": False})
    else:
        model.activation_checkpointing_disable()


def _spoiled(rows: Rows, group: Group, how: str) -> Rows:
    """A row with one thing wrong: what each says is what a mistake in the layout would do."""
    if how in ("", "detached"):
        return rows
    inputs, start = dict(rows.inputs), len(group.prompt.ids)
    places = inputs["position_ids"].clone()
    length = places.shape[-1]
    if how == "unreset":  # positions run on from one completion to the next
        places[..., start:] = places[..., start : start + 1] + torch.arange(length - start)
    elif how == "late":  # a completion starts one position late, as when the visual offset is forgotten
        places[..., start:] += 1
    elif how == "causal":  # a completion sees those before it
        return Rows(inputs, replace(rows.ask, layout=Layout((length,), ((),))))
    return Rows(inputs | {"position_ids": places}, rows.ask)


@contextlib.contextmanager
def _detached(model: Any, length: int) -> Iterator[None]:
    """No gradient through the prompt's keys and values: every log-probability stays right, the gradients do not."""

    def cut(module: Any, given: Any, out: Tensor) -> Tensor:
        return torch.cat([out[:, :length].detach(), out[:, length:]], 1)

    names = ("k_proj", "v_proj")
    hooks = [m.register_forward_hook(cut) for n, m in model.named_modules() if n.rpartition(".")[2] in names]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _float64_head() -> Iterator[None]:
    """The head in float64: kernels may answer in float32, and have their own comparison in C1 to C3."""

    def head(hidden: Tensor, weight: Tensor, tokens: Tensor, **_: Any) -> tuple[Tensor, Tensor]:
        logp = torch.log_softmax(hidden @ weight.T, -1)
        return logp.gather(-1, tokens[:, None])[:, 0], -(logp.exp() * logp).sum(-1)

    stock, scoring.linear_logp = scoring.linear_logp, head
    try:
        yield
    finally:
        scoring.linear_logp = stock
