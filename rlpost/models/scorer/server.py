"""A second model behind an OpenAI-compatible server: vLLM, `transformers serve`, SGLang, llama.cpp, a hosted API."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost import foreign
from rlpost.errors import ConfigError, ModelError
from rlpost.models.encode import Encoder
from rlpost.models.load import _explained
from rlpost.models.located import located
from rlpost.models.scorer.base import Cached, Chat, Text, messages, no_reply, packed, tail, unit, unpacked
from rlpost.models.scorer.local import encoded
from rlpost.models.scorer.wire import Refused, Wire

EMBED_ROWS = 32  # texts per request


class Server(Cached):
    """A model that an OpenAI-compatible server answers for: replies, embeddings, and log-probabilities where it can.

    `judge` asks /chat/completions and `embed` /embeddings. `logp` and `choice_probs` ask /completions with token ids,
    `echo` and `logprobs` (vLLM and SGLang can), for which `tokenizer` names the model's folder or hub name. `extra` is
    laid over every request; a null value takes a field out. The server cannot say which weights it has: change
    `revision` when they change, because results are cached. The key is read from the environment variable that
    `api_key_env` names and is written nowhere.

    Edge cases: `transformers serve` is greedy at any temperature unless the model's generation_config.json sets
    do_sample. A prompt that alone gets no answer has no reply (None, counted in the ledger); where none is answered,
    or any other method lacks one, ModelError. Statuses 408, 409, 425, 429, 500, 502, 503, 504, 529, timeouts and broken
    or malformed answers are tried again after `backoff_s` doubling, with jitter, and not before the server's
    Retry-After (up to a minute).
    """

    kind = "an OpenAI-compatible server"

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        revision: str | None = None,
        api_key_env: str | None = None,
        tokenizer: str | None = None,
        concurrency: int = 8,
        timeout_s: float = 120.0,
        retries: int = 4,
        backoff_s: float = 1.0,
        tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        extra: dict[str, Any] | None = None,
        cache: bool = True,
        cache_mb: float = 1024.0,
    ) -> None:
        super().__init__(cache=cache, cache_mb=cache_mb, slice_size=8 * max(1, concurrency))
        self.model, self.revision, self.tokenizer = model, revision, tokenizer
        self.tokens_field, self.extra = tokens_field, dict(extra or {})
        self.wire = Wire(
            base_url,
            api_key_env=api_key_env,
            timeout_s=timeout_s,
            retries=retries,
            backoff_s=backoff_s,
            concurrency=concurrency,
            meter=self.meter,
        )
        self._encoder: Encoder | None = None

    @property
    def identity(self) -> str:
        return (
            f"{self.wire.base_url} {self.model} {self.revision} {json.dumps(self.extra, sort_keys=True, default=str)}"
        )

    def judge(
        self, prompts: Sequence[Chat], *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        """A reply to each prompt; None where the server has none for it."""
        items = [messages(prompt) for prompt in prompts]
        params = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}

        def compute(places: list[int]) -> list[str | None]:
            own = {self.tokens_field: max_tokens, "temperature": temperature, **({"seed": seed} if temperature else {})}
            bodies = [self._body(messages=items[i], **own) for i in places]
            found = self.wire.post_all("chat/completions", bodies, _reply, "judge")
            for i, one in zip(places, found, strict=True):
                if isinstance(one, Refused):
                    no_reply(str(one), tail(prompts[i]))
            return [None if isinstance(one, Refused) else one for one in found]

        return self.through("judge", items, params, compute)

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        def compute(places: list[int]) -> list[str]:
            parts = [places[start : start + EMBED_ROWS] for start in range(0, len(places), EMBED_ROWS)]
            bodies = [self._body(input=[texts[i] for i in part], encoding_format="float") for part in parts]
            found = self.wire.post_all("embeddings", bodies, _vectors, "embed")
            rows = [row for part, one in zip(parts, found, strict=True) for row in _all_of(one, len(part))]
            return packed(unit(torch.tensor(rows, dtype=torch.float32)))

        return unpacked(self.through("embed", list(texts), {}, compute))

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        encoder = self._tokens()
        pairs = [encoded(encoder, prompt, text) for prompt, text in zip(prompts, completions, strict=True)]
        rows = [[prompt.ids, tokens] for prompt, tokens in pairs]

        def compute(places: list[int]) -> list[list[float]]:
            # One token is generated and left aside: not every server takes max_tokens 0.
            fixed = {"max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
            bodies = [self._body(prompt=rows[i][0] + rows[i][1], **fixed) for i in places]
            found = self.wire.post_all("completions", bodies, _echoed, "logp")
            return [self._completion_part(one, rows[i]) for i, one in zip(places, found, strict=True)]

        return self.through("logp", rows, {}, compute)

    def _completion_part(self, echoed: Any, row: Sequence[Sequence[int]]) -> list[float]:
        if isinstance(echoed, Refused):
            raise echoed
        start, end = len(row[0]), len(row[0]) + len(row[1])
        values = (echoed or [])[start:end]
        if echoed is None or len(echoed) not in (end, end + 1) or not all(map(_is_number, values)):
            raise ConfigError(
                f"the server {self.wire.base_url} does not return the log-probabilities of its prompt (echo with "
                "logprobs), so it has no logp; vLLM does, and scorer=local computes them here"
            )
        return [float(value) for value in values]

    def _body(self, **own: Any) -> dict[str, Any]:
        whole = {"model": self.model, **own, **self.extra}
        return {name: value for name, value in whole.items() if value is not None}

    def _tokens(self) -> Encoder:
        if self.tokenizer is None:
            raise ConfigError("a server needs `tokenizer`, the folder or hub name of its model, for log-probabilities")
        if self._encoder is None:
            from transformers import AutoTokenizer

            with _explained(self.tokenizer):
                self._encoder = Encoder(AutoTokenizer.from_pretrained(located(self.tokenizer), trust_remote_code=False))
        return self._encoder


def _reply(answer: Mapping[str, Any]) -> str:
    """The text of a chat completion; a reply without text, such as one that only reasoned until its limit, is empty."""
    content = answer["choices"][0]["message"]["content"]
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    return foreign.whole(content or "")


def _vectors(answer: Mapping[str, Any]) -> list[list[float]]:
    rows = sorted(answer["data"], key=lambda row: row["index"])
    vectors = [[float(x) for x in row["embedding"]] for row in rows]
    if not all(math.isfinite(x) for vector in vectors for x in vector) or len({len(v) for v in vectors}) != 1:
        raise ValueError("vectors of unequal length, or with values that are no numbers")
    return vectors


def _echoed(answer: Mapping[str, Any]) -> list[Any] | None:
    logprobs = answer["choices"][0].get("logprobs")
    return None if logprobs is None else list(logprobs["token_logprobs"])


def _all_of(rows: Any, wanted: int) -> list[list[float]]:
    if isinstance(rows, Refused):
        raise rows
    if len(rows) != wanted:
        raise ModelError(f"the server returned {len(rows)} embeddings for {wanted} texts")
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
