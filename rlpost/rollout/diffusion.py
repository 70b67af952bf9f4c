"""Completions of a masked-diffusion language model: a row of masks, filled token by token in an order of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.likelihood.scoring import mask_token
from rlpost.models.encode import Encoder
from rlpost.models.positions import position_ids
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling, _choose
from rlpost.types import Prompt, Rollout, Task

Order = Literal["entropy", "confidence", "random", "left"]


@dataclass(frozen=True)
class Unmasking(Sampling):
    """How masks are filled: `max_tokens` of them in `steps` forward passes, `block` of them after the other."""

    steps: int = 256
    order: Order = "entropy"
    block: int | None = None
    unmasks: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        if self.steps < 1 or (self.block is not None and self.block < 1):
            raise ConfigError(f"rollout diffusion has steps={self.steps} and block={self.block}; both are 1 or more")
        if self.order not in ("entropy", "confidence", "random", "left"):
            raise ConfigError(f"rollout.order={self.order!r} is none of entropy, confidence, random, left")


def diffusion(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    steps: int = 256,
    order: Literal["entropy", "confidence", "random", "left"] = "entropy",
    block: int | None = None,
) -> list[Rollout]:
    """Independent completions of each task by iterative unmasking, each with the seed of its masks.

    Equation:
        y = max_tokens masks; in each of `steps` passes every masked place draws y_j ~ pi(. | x, y), and the surest
        draws stay: those of the lowest entropy (entropy), of the highest probability (confidence), any (random), or the
        first ones (left)
    Reduces to:
        one token per pass with steps = max_tokens; all of them at once with 1.
    Edge cases:
        A completion ends with its first stop token; what was written behind it is dropped. `gen_logp` of a token is its
        log-probability at the temperature in the pass that placed it, given the places filled by then: it is no
        log-probability given what is before it, and not what likelihood=masked computes. `block` fills that many places
        before those behind them; `steps` is shared out evenly, at least one per block, and never above the number of
        masks. `info` holds `decode_order`, the rank of each token in the order of writing (tokens of one pass count
        from the left), and `mask_seed`, from which the masks of likelihood=masked follow for every policy.
    Paper: DiffuCoder, arXiv:2506.20639, generation by entropy with one token per pass (steps 256, top_p 0.95); Large
        Language Diffusion Models (LLaDA), arXiv:2502.09992, for confidence and blocks.
    """
    known = {field.name: getattr(ctx.sampling, field.name) for field in fields(Sampling)}
    ctx.sampling = Unmasking(**known, steps=steps, order=order, block=block)
    rows = ctx.generate(tasks, ctx.num_generations)
    for row in rows:
        row.info["mask_seed"] = ctx.rng.getrandbits(63)
    return rows


# Held-out accuracy, `rlpost eval` and `rlpost sample` draw as the rollout does.
diffusion.sampling = Unmasking  # type: ignore[attr-defined]


@torch.no_grad()
def unmask(
    model: Any, encoder: Encoder, prompts: Sequence[Prompt], n: int, how: Any, generator: torch.Generator
) -> list[Completion]:
    """`n` completions of each prompt, those of one prompt side by side; `how` is an `Unmasking`."""
    device, width = next(model.parameters()).device, how.max_tokens
    asked = [prompt for prompt in prompts for _ in range(n)]
    inputs = encoder.collate(asked, [[mask_token(model)] * width] * len(asked))
    inputs = {name: value.to(device) for name, value in inputs.items()}
    inputs["position_ids"] = position_ids(model, inputs)
    tokens = inputs["input_ids"][:, -width:] if width else inputs["input_ids"][:, :0]  # a view: what is placed is seen
    logp = torch.zeros(tokens.shape, device=device)
    rank = torch.full_like(tokens, -1)
    training, done = model.training, 0
    model.eval()
    try:
        for low, high, count in _schedule(how):
            logits = model(**inputs, use_cache=False, logits_to_keep=width).logits[:, low:high]
            shape = logits.shape[:2]
            drawn, sure = (x.view(shape) for x in _choose(logits.flatten(0, 1), how, encoder.suppress, generator))
            score = _score(how.order, logits, sure, encoder.suppress, generator)
            score = score.masked_fill(rank[:, low:high] >= 0, float("-inf"))
            places = score.topk(count, -1).indices.sort(-1).values
            tokens[:, low:high].scatter_(1, places, drawn.gather(1, places))
            logp[:, low:high].scatter_(1, places, sure.gather(1, places))
            turn = torch.arange(done, done + count, device=device).expand_as(places)
            rank[:, low:high].scatter_(1, places, turn)
            done += count
            if _ended(tokens, rank, encoder.stop_ids):
                break
    finally:
        model.train(training)
    return [_cut(*row, encoder.stop_ids) for row in zip(tokens.tolist(), logp.tolist(), rank.tolist(), strict=True)]


def _schedule(how: Unmasking) -> Iterator[tuple[int, int, int]]:
    """Of each pass: the block's first place, the place behind it, and how many tokens stay."""
    width = how.max_tokens
    block = min(how.block or width, width)
    for low in range(0, width, block or 1):
        size = min(block, width - low)
        passes = max(1, min(size, round(how.steps * size / width)))
        for k in range(passes):
            yield low, low + size, (k + 1) * size // passes - k * size // passes


def _score(
    order: Order, logits: Float[Tensor, "N S V"], sure: Tensor, banned: Sequence[int], generator: torch.Generator
) -> Float[Tensor, "N S"]:
    """What is placed first has the highest score."""
    if order == "confidence":
        return sure
    if order == "random":
        return torch.rand(sure.shape, generator=generator, device=sure.device)
    if order == "left":
        return -torch.arange(sure.shape[1], device=sure.device, dtype=sure.dtype).expand_as(sure)
    logp = torch.log_softmax(logits.float().index_fill(-1, torch.tensor(banned, device=sure.device).long(), -1e9), -1)
    return (logp.exp() * logp).sum(-1)


def _ended(tokens: Tensor, rank: Tensor, stop_ids: Sequence[int]) -> bool:
    """Whether every row has a stop token with nothing left to write before it."""
    filled = (rank >= 0).cumprod(-1).bool()
    stops = torch.isin(tokens, torch.tensor(list(stop_ids), device=tokens.device))
    return bool((filled & stops).any(-1).all())


def _cut(tokens: list[int], logp: list[float], rank: list[int], stop_ids: Sequence[int]) -> Completion:
    """A row up to its first stop token."""
    end = next((i + 1 for i, token in enumerate(tokens) if token in stop_ids), None)
    n = len(tokens) if end is None else end
    return Completion(tokens[:n], logp[:n], "length" if end is None else "eos", {"decode_order": rank[:n]})
