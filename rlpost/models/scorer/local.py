"""A language model of this process as a second model."""

import hashlib
import math
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.errors import DataError, ModelError
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, states, teach, unwrap
from rlpost.models.encode import Bundle, Encoder, completion_mask
from rlpost.models.positions import position_ids
from rlpost.models.scorer.base import Cached, Chat, Text, messages, no_reply, packed, shown, tail, unit, unpacked
from rlpost.rollout.engine import Sampling, sample
from rlpost.types import Mask, Media, Prompt, Task


class Local(Cached):
    """A language model of this process, frozen: log-probabilities, states, embeddings, choices and replies.

    `model` is a model option; it is loaded on first use, to `device` (default: this process's GPU where there is one).

    Edge cases: the cache knows the weights by their sums, so a folder that was trained on is another model. A prompt
    that does not fit the model's context gets no reply, and no log-probability: ModelError. `embed` is the mean state
    of the text without a prompt, which is a weak embedding; `scorer=embedder` has a trained one. Images and videos are
    shown in `choice_probs` alone, as the policy sees them.
    """

    kind = "a local language model"

    def __init__(
        self,
        *,
        model: Callable[[], Bundle],
        batch_size: int = 16,
        device: str | None = None,
        cache: bool = True,
        cache_mb: float = 1024.0,
    ) -> None:
        super().__init__(cache=cache, cache_mb=cache_mb, slice_size=batch_size)
        self._make, self._device = model, device
        self._bundle: Bundle | None = None
        self._identity = ""
        self._lock = threading.RLock()

    @property
    def identity(self) -> str:
        self._ready()
        return self._identity

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        rows = self._encoded(prompts, completions)
        return self.through("logp", _plain(rows), {}, lambda at: self._logp([rows[i] for i in at]))

    def hidden(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> Float[Tensor, "N D"]:
        rows = self._encoded(prompts, completions)
        return unpacked(
            self.through("hidden", _plain(rows), {}, lambda at: packed(self._states([rows[i] for i in at])))
        )

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        return unit(self.hidden([()] * len(texts), texts))

    def choice_probs(
        self,
        prompts: Sequence[Chat],
        choices: Sequence[Sequence[str]],
        *,
        media: Sequence[Sequence[Media]] | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Of choices that continue an answer: the model's next token among their first ones where these differ.

        Otherwise a softmax over the summed log-probabilities of the choices' tokens. A choice is tokenised on its own.
        Raises DataError for fewer than two choices, equal ones, or one without tokens.
        """
        if media is None and begun is None:
            return super().choice_probs(prompts, choices)
        encoder, pictures = self._ready().encoder, media or [()] * len(prompts)
        asked = [
            begun_answer(encoder, prompt, some, text)
            for prompt, some, text in zip(prompts, pictures, begun or [""] * len(prompts), strict=True)
        ]
        tokens = [_choices(encoder, own, prompt) for own, prompt in zip(choices, prompts, strict=True)]
        items = [[one.ids, shown(some), own] for one, some, own in zip(asked, pictures, tokens, strict=True)]

        def compute(places: list[int]) -> list[list[float]]:
            found: dict[int, Tensor] = {}
            apart = [i for i in places if len({one[0] for one in tokens[i]}) == len(tokens[i])]
            if apart:
                logits = self._next([asked[i] for i in apart])
                found |= {i: row[[one[0] for one in tokens[i]]] for i, row in zip(apart, logits, strict=True)}
            for i in sorted(set(places) - set(apart)):
                sums = self._logp([(asked[i], one) for one in tokens[i]])
                found[i] = torch.tensor([math.fsum(one) for one in sums], dtype=torch.float64)
            return [torch.softmax(found[i], 0).tolist() for i in places]

        return self.through("choice_probs", items, {}, compute)

    @torch.no_grad()
    def _next(self, asked: Sequence[Prompt]) -> Float[Tensor, "N V"]:
        """The logits behind each prompt, float64 on the CPU."""
        _, inputs = self._inputs([(prompt, []) for prompt in asked])
        with self._lock, self.meter.timed("choice_probs"):
            found = self._ready().model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
        return found.double().cpu()

    def judge(
        self, prompts: Sequence[Chat], *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        """A reply to each prompt; None where it does not fit the context.

        Above temperature 0 a reply is one draw, and what a draw is depends on the batch that it was made in.
        """
        encoder = self._ready().encoder
        asked = [encoder.prompt(task_of(prompt)) for prompt in prompts]
        params = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}

        def compute(places: list[int]) -> list[str | None]:
            fit = [i for i in places if self._fits(len(asked[i].ids) + max_tokens)]
            for i in sorted(set(places) - set(fit)):
                no_reply("the prompt does not fit the judge's context", tail(prompts[i]))
            replies = dict(zip(fit, self._replies([asked[i] for i in fit], **params), strict=True))
            return [replies.get(i) for i in places]

        return self.through("judge", [prompt.ids for prompt in asked], params, compute)

    def _replies(self, asked: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int) -> list[str]:
        bundle = self._ready()
        generator = torch.Generator(device=next(bundle.model.parameters()).device).manual_seed(seed)
        with self._lock, self.meter.timed("judge"):
            sampling = Sampling(max_tokens=max_tokens, temperature=temperature)
            found = sample(bundle.model, bundle.encoder, asked, 1, sampling, generator)
        return [bundle.encoder.decode(completion.tokens) for completion in found]

    @torch.no_grad()
    def _logp(self, rows: Sequence[tuple[Prompt, list[int]]]) -> list[list[float]]:
        mask, inputs = self._inputs(rows)
        with self._lock, self.meter.timed("logp"):
            found = causal(self._ready().model, Rows(inputs, Ask(mask.to(inputs["input_ids"].device)))).logp.cpu()
        return [line[: len(tokens)].tolist() for line, (_, tokens) in zip(found, rows, strict=True)]

    @torch.no_grad()
    def _states(self, rows: Sequence[tuple[Prompt, list[int]]]) -> Float[Tensor, "N D"]:
        mask, inputs = self._inputs(rows)
        core = unwrap(self._ready().model)
        with self._lock, self.meter.timed("hidden"):
            states = core.base_model(**inputs, use_cache=False).last_hidden_state[:, -mask.shape[1] :].float().cpu()
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    @torch.no_grad()
    def predicting(
        self, prompts: Sequence[Prompt], completions: Sequence[list[int]], mask: Mask
    ) -> tuple[Any, Float[Tensor, "M D"]]:
        """The model itself, and its states from which the tokens of the mask are predicted, in row-major order."""
        model = self._ready().model
        found = []
        for start in range(0, len(prompts), self._slice):
            part = slice(start, start + self._slice)
            own, inputs = self._inputs(list(zip(prompts[part], completions[part], strict=True)))
            ask = Ask(mask[part, : own.shape[1]].to(inputs["input_ids"].device))
            with self._lock, self.meter.timed("predicting"):
                found.append(states(unwrap(model).base_model, ask, inputs))
        return model, torch.cat(found)

    def _inputs(self, rows: Sequence[tuple[Prompt, list[int]]]) -> tuple[Tensor, dict[str, Tensor]]:
        bundle = self._ready()
        device = next(bundle.model.parameters()).device
        longest = max(len(prompt.ids) + len(tokens) for prompt, tokens in rows)
        if not self._fits(longest):
            raise ModelError(
                f"a text of {longest} tokens does not fit the context of {bundle.name}; pick a second model that "
                "reads longer texts, or lower rollout.max_tokens"
            )
        tokens = [tokens for _, tokens in rows]
        inputs = bundle.encoder.collate([prompt for prompt, _ in rows], tokens)
        inputs = {name: value.to(device) for name, value in inputs.items()}
        inputs["position_ids"] = position_ids(bundle.model, inputs)
        return completion_mask(tokens, [[True] * len(one) for one in tokens]), inputs

    def _fits(self, tokens: int) -> bool:
        limit = getattr(unwrap(self._ready().model).config.get_text_config(), "max_position_embeddings", None)
        return limit is None or tokens <= limit

    def _encoded(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[tuple[Prompt, list[int]]]:
        encoder = self._ready().encoder
        return [encoded(encoder, prompt, text) for prompt, text in zip(prompts, completions, strict=True)]

    def _ready(self) -> Bundle:
        with self._lock:
            if self._bundle is None:
                bundle = self._make()
                bundle.model = bundle.model.requires_grad_(False).eval().to(place(self._device))
                teach(bundle.model)
                self._identity = f"{bundle.source} {fingerprint(bundle.model)}"
                self._bundle = bundle
            return self._bundle


def encoded(encoder: Encoder, prompt: Chat, completion: Text) -> tuple[Prompt, list[int]]:
    """A prompt and what follows it as token ids; a text gets the template's stop token. Raises DataError for no ids."""
    task = task_of(prompt)
    tokens = encoder.completion(task, completion).tokens if isinstance(completion, str) else list(completion)
    if not tokens:
        raise DataError(f"a completion without tokens has nothing to score, after {tail(prompt)}")
    return encoder.prompt(task), tokens


def begun_answer(encoder: Encoder, prompt: Chat, media: Sequence[Media], text: str) -> Prompt:
    """The prompt with its media, followed by the beginning of an answer."""
    found = encoder.prompt(replace(task_of(prompt), media=tuple(media)))
    more = list(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])
    return replace(found, ids=[*found.ids, *more], kinds=[*found.kinds, *([0] * len(more))])


def _choices(encoder: Encoder, choices: Sequence[str], prompt: Chat) -> list[list[int]]:
    tokens = [list(encoder.tokenizer(one, add_special_tokens=False)["input_ids"]) for one in choices]
    if len(tokens) < 2 or not all(tokens) or len({tuple(one) for one in tokens}) < len(tokens):
        raise DataError(f"{list(choices)} are no two or more choices that differ as tokens, after {tail(prompt)}")
    return tokens


def fingerprint(model: Any) -> str:
    """A short name for the weights of a model: their names, shapes, dtypes, sums and norms."""
    digest = hashlib.sha256()
    for name, value in sorted([*model.named_parameters(), *model.named_buffers()], key=lambda pair: pair[0]):
        value = value.detach()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        if value.is_floating_point():
            sums = [value.sum(dtype=torch.float64), torch.linalg.vector_norm(value, dtype=torch.float64)]
            digest.update(repr([float(x) for x in sums]).encode())
    return digest.hexdigest()[:16]


def place(device: str | None) -> torch.device:
    """The device that is named, else this process's GPU, else the CPU."""
    if device is not None:
        return torch.device(device)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))


def task_of(prompt: Chat) -> Task:
    return Task("scorer", tuple(messages(prompt)))


def _plain(rows: Sequence[tuple[Prompt, list[int]]]) -> list[list[list[int]]]:
    return [[prompt.ids, tokens] for prompt, tokens in rows]
