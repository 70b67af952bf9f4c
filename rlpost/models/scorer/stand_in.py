"""A scorer without a model: every answer is a function of the content's hash, for tests and smoke runs."""

import hashlib
import itertools
import logging
import math
import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlpost.errors import ConfigError
from rlpost.models.scorer.base import Cached, Chat, Text, messages, shown, unit
from rlpost.models.scorer.cache import key_of
from rlpost.types import Media

log = logging.getLogger("rlpost")

_PLACE = re.compile(r"<number from (?P<low>\d+(?:\.\d+)?) to (?P<high>\d+(?:\.\d+)?)>")


class StandIn(Cached):
    """A stand-in for a second model: reproducible numbers and replies that mean nothing.

    A judge's prompt that asks for a line with `<number from 0 to 10>` in it, once or more, gets that line with whole
    numbers; the last such line counts. `nonsense` is the share of replies that are unreadable instead.

    Edge cases: text has one token per word and a stop token; token ids have one each.
    """

    kind = "the stand-in"

    def __init__(self, *, seed: int = 0, width: int = 32, nonsense: float = 0.0) -> None:
        super().__init__(cache=False, cache_mb=1.0, slice_size=1024)
        if width < 1 or not 0 <= nonsense <= 1:
            raise ConfigError(f"the stand-in has width {width} and nonsense {nonsense:g}; at least 1 and a share")
        self.seed, self.width, self.nonsense = seed, width, nonsense
        log.warning("a second model is played by the stand-in: its numbers and replies mean nothing")

    @property
    def identity(self) -> str:
        return f"stand-in:{self.seed}"

    def logp(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[list[float]]:
        items = [[messages(p), _tokens(c)] for p, c in zip(prompts, completions, strict=True)]

        def compute(places: list[int]) -> list[list[float]]:
            return [
                [math.log(1.0 - 0.98 * self._draw("logp", prompt, tokens[: k + 1])) for k in range(len(tokens))]
                for prompt, tokens in (items[place] for place in places)
            ]

        return self.through("logp", items, {}, compute)

    def hidden(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> Float[Tensor, "N D"]:
        items = [[messages(p), _tokens(c)] for p, c in zip(prompts, completions, strict=True)]
        return self._vectors("hidden", items)

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        return unit(self._vectors("embed", list(texts)))

    def scalar(self, prompts: Sequence[Chat], completions: Sequence[Text]) -> list[float]:
        items = [[messages(p), _tokens(c)] for p, c in zip(prompts, completions, strict=True)]
        return self.through("scalar", items, {}, lambda at: [4 * self._draw("scalar", items[i]) - 2 for i in at])

    def choice_probs(
        self,
        prompts: Sequence[Chat],
        choices: Sequence[Sequence[str]],
        *,
        media: Sequence[Sequence[Media]] | None = None,
        begun: Sequence[str] | None = None,
    ) -> list[list[float]]:
        if media is None and begun is None:
            return super().choice_probs(prompts, choices)
        seen = [shown(one) for one in media or [()] * len(prompts)]
        items = [
            [messages(prompt), pictures, text, list(own)]
            for prompt, pictures, text, own in zip(prompts, seen, begun or [""] * len(prompts), choices, strict=True)
        ]

        def compute(places: list[int]) -> list[list[float]]:
            sizes = [[4 * self._draw("choice", *items[i][:3], choice) for choice in items[i][3]] for i in places]
            return [torch.softmax(torch.tensor(one, dtype=torch.float64), 0).tolist() for one in sizes]

        return self.through("choice_probs", items, {}, compute)

    def judge(
        self, prompts: Sequence[Chat], *, max_tokens: int = 512, temperature: float = 0.0, seed: int = 0
    ) -> list[str | None]:
        items = [messages(prompt) for prompt in prompts]
        # As with a model, only a temperature makes two tries differ.
        chance = seed if temperature > 0 else 0
        params = {"temperature": temperature, "seed": chance}
        return self.through("judge", items, params, lambda at: [self._reply(items[i], chance) for i in at])

    def _reply(self, chat: list[dict], chance: int) -> str:
        if self._draw("nonsense", chat, chance) < self.nonsense:
            return "I would rather not say."
        asked = "\n".join(str(message.get("content")) for message in chat).split("\n")
        lines = [line for line in asked if _PLACE.search(line)]
        if not lines:
            return f"A reply of the stand-in, {key_of(self.seed, chat, chance)[:8]}."
        place = itertools.count()

        def number(found: re.Match[str]) -> str:
            low, high = math.ceil(float(found["low"])), math.floor(float(found["high"]))
            content = ["judge", chat, chance, next(place)]
            drawn = self._draw(*(content if content[-1] else content[:-1]))
            return str(low + int(drawn * (high - low + 1)))

        return f"This is a reply of the stand-in.\n{_PLACE.sub(number, lines[-1])}"

    def _vectors(self, method: str, items: Sequence[object]) -> Float[Tensor, "N D"]:
        rows = self.through(method, items, {}, lambda at: [self._row(method, items[i]) for i in at])
        return torch.tensor(rows, dtype=torch.float32).reshape(len(items), self.width)

    def _row(self, method: str, item: object) -> list[float]:
        return [2 * self._draw(method, item, column) - 1 for column in range(self.width)]

    def _draw(self, *content: object) -> float:
        """A number in [0, 1)."""
        digest = hashlib.sha256(key_of(self.seed, *content).encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48


def _tokens(completion: Text) -> list:
    return [*completion.split(), "<stop>"] if isinstance(completion, str) else list(completion)
