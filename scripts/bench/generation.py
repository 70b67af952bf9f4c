"""C8: completions of a prompt that is encoded once for its group, against transformers' generate on copies of it."""

import torch
from torch import Tensor

from rlpost.models.encode import Bundle
from rlpost.rollout.engine import Sampling, sample
from rlpost.types import Prompt
from scripts.bench import models
from scripts.bench.record import Case, largest, race

LENGTH, ANSWER, MEMBERS = 512, 32, 8


def sharing(repeats: int) -> list[Case]:
    """C8: text, Qwen2.5-VL and Qwen3-VL. The error is the share of tokens that differ, and none may."""
    found = [_case(models.llama(), repeats, 2.7, 3.2)]
    return found + [_case(models.vision(family), repeats, 3.5, 5.0) for family in ("qwen2_5_vl", "qwen3_vl")]


def _case(bundle: Bundle, repeats: int, target: float, stretch: float) -> Case:
    prompt = models.prompt(bundle, LENGTH)
    model = bundle.model.eval()
    with models.float64(model):
        greedy = differing(ours(bundle, prompt, 0.0), theirs(bundle, prompt, 0.0))
        drawn = differing(ours(bundle, prompt, 1.0), theirs(bundle, prompt, 1.0))
    model.float()
    runs = {"ours": lambda: ours(bundle, prompt, 1.0), "theirs": lambda: theirs(bundle, prompt, 1.0)}
    times = race(runs, repeats)
    note = (
        f"P={LENGTH} C={ANSWER} G={MEMBERS}, timed in float32 at temperature 1; error in float64: tokens that differ, "
        f"greedy {greedy:.1%}, sampled from equally seeded generators {drawn:.1%}"
    )
    error = largest(greedy, drawn)
    return Case(bundle.name, error, 0.0, target, stretch, times.ms["ours"], times.ms["theirs"], times.spread, note)


def ours(bundle: Bundle, prompt: Prompt, temperature: float, *, answer: int = ANSWER) -> Tensor:
    """Tokens (G,C) of our own engine."""
    model, device = bundle.model, next(bundle.model.parameters()).device
    prompt = _cast(prompt, model.dtype)
    draw = torch.Generator(device=device).manual_seed(7)
    found = sample(model, bundle.encoder, [prompt], MEMBERS, Sampling(answer, temperature), draw)
    return torch.tensor([completion.tokens for completion in found])


def theirs(bundle: Bundle, prompt: Prompt, temperature: float, *, answer: int = ANSWER) -> Tensor:
    """Tokens (G,C) of `generate` on the prompt and its image repeated G times, as TRL's trainer calls it."""
    model, device = bundle.model, next(bundle.model.parameters()).device
    inputs = bundle.encoder.collate([_cast(prompt, model.dtype)] * MEMBERS)
    inputs = {name: value.to(device) for name, value in inputs.items()}
    how = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    if hasattr(model.model, "rope_deltas"):
        model.model.rope_deltas = None
    torch.manual_seed(7)
    with torch.no_grad():
        found = model.generate(
            **inputs,
            **how,
            max_new_tokens=answer,
            top_k=0,
            top_p=1.0,
            eos_token_id=models.NEVER,
            pad_token_id=bundle.encoder.pad_id,
            suppress_tokens=bundle.encoder.suppress or None,
        )
    return found[:, inputs["input_ids"].shape[1] :].cpu()


def differing(found: Tensor, wanted: Tensor) -> float:
    """The share of tokens that differ; 1 where even the shapes do."""
    return float((found != wanted).float().mean()) if found.shape == wanted.shape else 1.0


def _cast(prompt: Prompt, dtype: torch.dtype) -> Prompt:
    features = {n: v.to(dtype) if v.is_floating_point() else v for n, v in prompt.features.items()}
    return Prompt(prompt.ids, prompt.kinds, features)
