"""Sampling with the policy itself: each unique prompt (and its media) is encoded once for all its completions."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from rlpost.errors import ConfigError, ModelError
from rlpost.kernels.prefix import key
from rlpost.likelihood.scoring import left_to_right, unwrap
from rlpost.models.encode import Encoder
from rlpost.models.positions import next_positions, position_ids
from rlpost.rollout.memory import Memory, remembered
from rlpost.types import Prompt, Stop

# Finished rows leave the batch once they are at least this share of it.
COMPACT = 0.25


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Temperature 0 is greedy; `top_k` 0 means all tokens."""

    max_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    unmasks: ClassVar[bool] = False  # whether tokens come in any order, out of masks

    def __post_init__(self):
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"rollout.top_p is {self.top_p}; choose a share of probability above 0, up to 1")
        if self.temperature < 0 or self.max_tokens < 0 or self.top_k < 0:
            raise ConfigError(
                f"rollout has temperature {self.temperature}, max_tokens {self.max_tokens} and top_k {self.top_k}; "
                "none of them can be negative"
            )


class Completion(NamedTuple):
    """Sampled tokens with the stop token, and their log-probability at the temperature, before top-p and top-k.

    `info` goes into the row's.
    """

    tokens: list[int]
    logp: list[float]
    stop: Stop
    info: Mapping[str, Any] = {}


@torch.no_grad()
def sample(
    model: Any, encoder: Encoder, prompts: Sequence[Prompt], n: int, sampling: Sampling, generator: torch.Generator
) -> list[Completion]:
    """`n` completions of each prompt, those of one prompt side by side.

    Raises ModelError for a model that does not write in the order that `sampling` asks for.
    """
    if not prompts:
        return []
    core, device = unwrap(model), next(model.parameters()).device
    if sampling.unmasks == left_to_right(core):
        raise ModelError(
            f"{type(core).__name__} writes left to right, and this rollout fills masks; pick model=diffusion_tiny, or "
            "another rollout"
            if sampling.unmasks
            else f"{type(core).__name__} reads both ways, so it cannot write left to right; set rollout=diffusion"
        )
    if sampling.unmasks:
        from rlpost.rollout.diffusion import unmask

        return unmask(core, encoder, prompts, n, sampling, generator)
    unique, rows = _unique(prompts, n)
    training = core.training
    core.eval()
    try:
        inputs = {name: value.to(device) for name, value in encoder.collate(unique).items()}
        positions, rows = position_ids(core, inputs), torch.tensor(rows, device=device)
        cache = DynamicCache(config=core.config.get_text_config())
        known = {"position_ids": positions, "past_key_values": cache, "use_cache": True, "logits_to_keep": 1}
        logits = core(**inputs, **known).logits[rows, -1]
        # A tenth faster than no_grad, token by token. Parameters that are gathered from other devices would be left
        # behind as inference tensors, so runs on several processes do without.
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        with (
            remembered(core, cache, inputs["attention_mask"], rows) as memory,
            torch.inference_mode(not several),
            torch.no_grad(),
        ):
            state = _State(memory, logits, next_positions(positions).index_select(-2, rows))
            return _decode(core, encoder, state, sampling, generator)
    finally:
        core.train(training)


@dataclass
class _State:
    memory: Memory
    logits: Tensor
    positions: Tensor


def _unique(prompts: Sequence[Prompt], n: int) -> tuple[list[Prompt], list[int]]:
    """Prompts that differ, and for each of the `n` rows of every prompt the index of its own among them."""
    indices: dict[Hashable, int] = {}
    rows = [indices.setdefault(key(prompt), len(indices)) for prompt in prompts for _ in range(n)]
    return list({key(prompt): prompt for prompt in prompts}.values()), rows


def _decode(
    model: Any, encoder: Encoder, state: _State, sampling: Sampling, generator: torch.Generator
) -> list[Completion]:
    rows = len(state.logits)
    tokens: list[list[int]] = [[] for _ in range(rows)]
    logps: list[list[float]] = [[] for _ in range(rows)]
    stops: list[Stop] = ["length"] * rows
    alive, done = list(range(rows)), [False] * rows
    stop_ids, banned = set(encoder.stop_ids), encoder.suppress
    for t in range(sampling.max_tokens):
        chosen, logp = _choose(state.logits, sampling, banned, generator)
        for row, token, p in zip(alive, chosen.tolist(), logp.tolist(), strict=True):
            if done[row]:
                continue
            tokens[row].append(token)
            logps[row].append(p)
            if token in stop_ids:
                done[row], stops[row] = True, "eos"
        if all(done) or t + 1 == sampling.max_tokens:
            break
        finished = sum(done[row] for row in alive)
        if finished >= COMPACT * len(alive):
            slots = [slot for slot, row in enumerate(alive) if not done[row]]
            alive, kept = [alive[s] for s in slots], torch.tensor(slots, device=chosen.device)
            chosen, state.positions = chosen[kept], state.positions.index_select(-2, kept)
            state.memory.keep(kept)
        _advance(model, state, chosen)
    return [Completion(t, p, s) for t, p, s in zip(tokens, logps, stops, strict=True)]


def _choose(
    logits: Tensor, sampling: Sampling, banned: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    z = logits.float()
    if banned:
        z = z.index_fill(-1, torch.tensor(banned, device=z.device), float("-inf"))
    if sampling.temperature == 0:
        chosen = z.argmax(-1)
        return chosen, torch.log_softmax(z, -1).gather(-1, chosen[:, None])[:, 0]
    logp = torch.log_softmax(z / sampling.temperature, -1)
    chosen = torch.multinomial(_truncated(logp, sampling).exp(), 1, generator=generator)[:, 0]
    return chosen, logp.gather(-1, chosen[:, None])[:, 0]


def _truncated(logp: Tensor, sampling: Sampling) -> Tensor:
    if 0 < sampling.top_k < logp.shape[-1]:
        logp = logp.masked_fill(logp < logp.topk(sampling.top_k, -1).values[:, -1:], float("-inf"))
    if sampling.top_p < 1:
        ranked, order = logp.sort(-1, descending=True)
        p = torch.softmax(ranked, -1)
        outside = p.cumsum(-1) - p >= sampling.top_p
        logp = logp.masked_fill(outside.scatter(-1, order, outside), float("-inf"))
    return logp


def _advance(model: Any, state: _State, chosen: Tensor) -> None:
    known = {"position_ids": state.positions, "use_cache": True, "logits_to_keep": 1, **state.memory.inputs()}
    state.logits = model(input_ids=chosen[:, None], **known).logits[:, -1]
    state.positions = state.positions + 1
