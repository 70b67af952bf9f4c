"""Angle concentration: how much the hidden states of a text point the same way, read off one forward pass.

Imported by curricula and trainers; not an option of its own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from rlpost.errors import DataError, ModelError
from rlpost.likelihood.scoring import unwrap
from rlpost.models.encode import Encoder
from rlpost.models.positions import position_ids
from rlpost.types import Prompt, Rollout, Task

SUFFIX = "mlp.up_proj"


def concentration(hidden: Float[Tensor, "L D"]) -> float:
    """Mean cosine between each state and itself, those before it, and the one after it.

    Equation:
        C = tril(H H^T, diagonal=1) with rows of H of length 1; sum(C) / (L (L + 1) / 2 + L - 1)

    Edge cases:
        Computed in O(L D): sum(C) = (|sum_i h_i|^2 + L) / 2 + sum_i h_i h_{i+1}. One state has 1.
    """
    h = normalize(hidden.double(), dim=-1)
    n = len(h)
    if n == 0:
        raise DataError("a text without tokens has no angle concentration")
    total = (h.sum(0).square().sum() + h.square().sum()) / 2 + (h[:-1] * h[1:]).sum()
    return float(total) / (n * (n + 1) / 2 + n - 1)


def prompt_score(hidden: Float[Tensor, "L D"], start: int, end: int, *, template_weight: float = 8.0) -> float:
    """How familiar a prompt is: the question's concentration with itself and with the template before it.

    Equation:
        C = tril(H H^T, diagonal=1); q = start .. end - 1; t = 0 .. start - 1
        mean(C[q, q]) + template_weight * mean(C[q, t])

    Edge cases:
        Means are over the whole block, also over the entries that the triangle sets to 0. Without a template the second
        term is 0. What follows the question counts nowhere.
    """
    h = normalize(hidden.double(), dim=-1)
    q, t = h[start:end], h[:start]
    n = len(q)
    if n == 0:
        raise DataError("a prompt without a question has no score")
    own = ((q.sum(0).square().sum() + q.square().sum()) / 2 + (q[:-1] * q[1:]).sum()) / n**2
    across = (q.sum(0) @ t.sum(0)) / (n * len(t)) if len(t) else 0.0
    return float(own + template_weight * across)


def of_prompts(model: Any, encoder: Encoder, tasks: Sequence[Task], *, template_weight: float = 8.0) -> list[float]:
    """`prompt_score` of each task from one forward pass over its prompt.

    The template before the question is what all prompts begin with, what follows it is what all end with.
    """
    prompts = [encoder.prompt(task) for task in tasks]
    before, after = shared_ends([p.ids for p in prompts])
    with _states(model) as states:
        return [
            prompt_score(
                states(encoder, [prompt], [[]])[0],
                min(before, len(prompt.ids) - 1),
                max(len(prompt.ids) - after, min(before, len(prompt.ids) - 1) + 1),
                template_weight=template_weight,
            )
            for prompt in prompts
        ]


def of_rollouts(model: Any, encoder: Encoder, rollouts: Sequence[Rollout], rows: int) -> list[float]:
    """`concentration` of each rollout's prompt and completion together; `rows` of them per forward pass."""
    found: list[float] = []
    with _states(model) as states:
        for chunk in (rollouts[i : i + rows] for i in range(0, len(rollouts), rows)):
            table = states(encoder, [r.prompt for r in chunk], [r.tokens for r in chunk])
            found += [concentration(hidden) for hidden in table]
    return found


def note(model: Any, encoder: Encoder, rollouts: Sequence[Rollout], rows: int) -> None:
    """Write each rollout's concentration into its `info`, from where it reaches the outcomes."""
    for rollout, value in zip(rollouts, of_rollouts(model, encoder, rollouts, rows), strict=True):
        rollout.info["angle"] = value


def shared_ends(texts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens all texts begin with, and with how many others all end; one text shares nothing."""
    if len(texts) < 2:
        return 0, 0
    shortest = min(len(text) for text in texts)
    before = next((i for i in range(shortest) if len({text[i] for text in texts}) > 1), shortest)
    after = next((i for i in range(shortest - before) if len({text[-1 - i] for text in texts}) > 1), shortest - before)
    return before, after


@contextmanager
def _states(model: Any) -> Iterator[Callable[..., list[Tensor]]]:
    """A function from prompts and completions to the inputs of the last up-projection, without padding, per row."""
    layer, caught = _last_up_projection(model), []
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach()))
    training = model.training
    model.eval()

    @torch.no_grad()
    def states(encoder: Encoder, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> list[Tensor]:
        caught.clear()
        device = next(model.parameters()).device
        inputs = {name: value.to(device) for name, value in encoder.collate(prompts, completions).items()}
        model(**inputs, position_ids=position_ids(model, inputs), use_cache=False, logits_to_keep=1)
        return [row[there.bool()].float() for row, there in zip(caught[0], inputs["attention_mask"], strict=True)]

    try:
        yield states
    finally:
        hook.remove()
        model.train(training)


def _last_up_projection(model: Any) -> Any:
    inner = unwrap(model)
    found = [module for name, module in inner.get_decoder().named_modules() if name.endswith(SUFFIX)]
    if not found:
        raise ModelError(
            f"{type(inner).__name__} has no {SUFFIX} in its layers, whose input the angle concentration is read from"
        )
    return found[-1]
