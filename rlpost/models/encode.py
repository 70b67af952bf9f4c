"""From tasks to token ids and model inputs, for text and vision: the only place that knows about chat templates.

Prompts are padded on the left and completions on the right, so the last column of the prompt predicts the first
completion token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool
from jinja2 import TemplateError
from torch import Tensor

from rlpost import ledger
from rlpost.errors import DataError, ModelError
from rlpost.models.held import Held
from rlpost.types import Media, Prompt, Task

KINDS = {"text": 0, "image": 1, "video": 2}
# Inputs that are one block per medium: a batch concatenates them in the order of its prompts.
VISUAL_INPUTS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
# How much of the joined tensors of prompts with several media is kept.
SETS_BYTES = 2**29


@dataclass(frozen=True)
class Visual:
    """One encoded medium: the tensors the model takes, and how many placeholder tokens it stands for.

    `text` is what the prompt says instead of the one placeholder and its `wrapper`, where a medium is told in parts: it
    holds one placeholder per part, and all parts have the same number of tokens. `shrunk` says why there are fewer
    tokens than the medium holds, each cause with the number that it cost.
    """

    kind: Literal["image", "video"]
    features: Mapping[str, Tensor]
    tokens: int
    text: str = ""
    wrapper: tuple[str, str] = ("", "")
    shrunk: tuple[tuple[str, int], ...] = ()


class MediaEncoder(Protocol):
    """Turns an image or a video into model inputs. `placeholders` gives the chat template's token for each kind.

    Equal media give the same `Visual`, so that equal prompts are known by their tensors.
    """

    placeholders: Mapping[str, str]
    special_tokens: Sequence[str]

    def __call__(self, media: Media) -> Visual: ...

    def clip(self, media: Media) -> Any:
        """The decoded medium: `frames` (F,H,W,3) uint8 as the model sees them, and `fps`."""


@dataclass(frozen=True)
class Answer:
    """The tokens of what follows a prompt, with True where a token is the assistant's (and so may train)."""

    tokens: list[int]
    trains: list[bool]


@dataclass
class Encoder:
    """A tokenizer, its chat template and, for a vision-language model, a media encoder."""

    tokenizer: Any
    media: MediaEncoder | None = None
    stop_ids: list[int] = field(default_factory=list)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    _sets: Held = field(default_factory=lambda: Held(SETS_BYTES), repr=False, compare=False)

    def __post_init__(self):
        if self.tokenizer.eos_token_id is None:
            raise ModelError("the tokenizer has no end-of-sequence token; set one in the model's tokenizer_config.json")
        if self.tokenizer.eos_token_id not in self.stop_ids:
            self.stop_ids = [self.tokenizer.eos_token_id, *self.stop_ids]
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    @property
    def pad_id(self) -> int:
        """The token that fills both sides of a batch; it is always masked."""
        return self.tokenizer.pad_token_id

    @property
    def suppress(self) -> list[int]:
        """Ids that are never sampled: visual ones would break the training forward, a mask stands for no token."""
        names = self.media.special_tokens if self.media else ()
        mask = self.tokenizer.mask_token_id
        return [*(self.tokenizer.convert_tokens_to_ids(name) for name in names), *([] if mask is None else [mask])]

    def prompt(self, task: Task) -> Prompt:
        """Encode a task's messages and media, ready for the answer. Plain text has no prompt: one start token.

        Raises DataError where the number of media and of placeholders differ, ModelError without a chat template.
        """
        if not task.prompt:
            start = self.tokenizer.bos_token_id
            return Prompt([self.tokenizer.eos_token_id if start is None else start], [0])
        if task.media and self.media is None:  # a text template would fail on the message parts first
            raise DataError(
                f"task {task.id} has {len(task.media)} media but the model reads text only; pick a vision model"
            )
        return self._expand(self._render(task.prompt, generation=True), task)

    def completion(self, task: Task, answer: str | Sequence[Mapping[str, Any]]) -> Answer:
        """Encode what follows the prompt: an assistant text, or messages of which the assistant's train.

        The chat template decides what stands around an answer; its stop token is the last that trains. Text without a
        prompt (language modelling) is written as it is, without the template, and all of it trains.
        """
        if not task.prompt and isinstance(answer, str):
            ids = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            return Answer(ids, [True] * len(ids))
        messages = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer)
        if not messages or messages[-1]["role"] != "assistant":
            raise DataError(f"task {task.id}: an answer ends with an assistant message, found {messages[-1:]}")
        tokens, trains, history = [], [], list(task.prompt)
        done = self._render(history, generation=messages[0]["role"] == "assistant")
        for i, message in enumerate(messages):
            history.append(message)
            ahead = i + 1 < len(messages) and messages[i + 1]["role"] == "assistant"
            text = self._render(history, generation=ahead and message["role"] != "assistant")
            if not text.startswith(done):
                raise ModelError(
                    f"the chat template rewrites earlier turns when a {message['role']} message follows, so the "
                    "tokens that train cannot be told apart; use a template that only appends"
                )
            new = self.tokenizer(text[len(done) :], add_special_tokens=False)["input_ids"]
            tokens += new
            # What a template writes after a stop token is never sampled, so it does not train either.
            last = max((k for k, token in enumerate(new) if token in self.stop_ids), default=len(new) - 1)
            trains += [message["role"] == "assistant" and k <= last for k in range(len(new))]
            done = text
        last = max((i for i, token in enumerate(tokens) if token in self.stop_ids), default=len(tokens) - 1)
        tokens, trains = tokens[: last + 1], trains[: last + 1]
        if tokens[-1] not in self.stop_ids:
            tokens, trains = [*tokens, self.tokenizer.eos_token_id], [*trains, True]
        return Answer(tokens, trains)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of a completion without its stop token and padding; tags that are special tokens stay visible."""
        kept = list(tokens)
        while kept and kept[-1] in {*self.stop_ids, self.pad_id}:
            kept.pop()
        return self.tokenizer.decode(kept, skip_special_tokens=False)

    def collate(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Tensor]:
        """Model inputs of a batch: prompts left-padded, completions right-padded, media concatenated in row order."""
        answers = completions if completions is not None else [[] for _ in prompts]
        left, right = max(len(p.ids) for p in prompts), max(len(c) for c in answers)
        ids = torch.full((len(prompts), left + right), self.pad_id)
        attention, kinds = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            start = left - len(prompt.ids)
            ids[row, start:left] = torch.tensor(prompt.ids)
            ids[row, left : left + len(answer)] = torch.tensor(list(answer), dtype=torch.long)
            attention[row, start : left + len(answer)] = 1
            kinds[row, start:left] = torch.tensor(prompt.kinds)
        inputs = {"input_ids": ids, "attention_mask": attention}
        if self.media is not None:
            inputs["mm_token_type_ids"] = kinds.int()
        for name in VISUAL_INPUTS:
            found = [prompt.features[name] for prompt in prompts if name in prompt.features]
            if found:
                inputs[name] = torch.cat(found)
        return inputs

    def _render(self, messages: Sequence[Mapping[str, Any]], *, generation: bool) -> str:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError("the tokenizer has no chat template; set model.chat_template to a Jinja template file")
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation, **self.template_kwargs
            )
        except (TemplateError, TypeError) as error:  # Jinja's own, and what its expressions do to another type
            raise DataError(f"the chat template does not take the messages ({error})") from error

    def _expand(self, text: str, task: Task) -> Prompt:
        if self.media is None:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return Prompt(ids, [0] * len(ids))
        visuals = [self.media(medium) for medium in task.media]
        _note_shrunk(task, visuals)
        holders = {self.tokenizer.convert_tokens_to_ids(p): kind for kind, p in self.media.placeholders.items()}
        queue = [(visual, n) for visual in visuals for n in _parts(visual, self.media.placeholders[visual.kind])]
        ids, kinds, written = [], [], _written(text, visuals, self.media.placeholders)
        for token in self.tokenizer(written, add_special_tokens=False)["input_ids"]:
            kind = holders.get(token)
            if kind is None:
                ids.append(token)
                kinds.append(KINDS["text"])
                continue
            if not queue or queue[0][0].kind != kind:
                raise DataError(
                    f"task {task.id}: the prompt has a placeholder for a {kind} that task.media does not hold there"
                )
            _, count = queue.pop(0)
            ids += [token] * count
            kinds += [KINDS[kind]] * count
        if queue:
            left = sum(visual is not queue[0][0] for visual, _ in queue) + 1
            raise DataError(f"task {task.id}: {left} of {len(visuals)} media have no placeholder in the prompt")
        return Prompt(ids, kinds, self._joined(visuals))

    def _joined(self, visuals: Sequence[Visual]) -> Mapping[str, Tensor]:
        """The tensors of a prompt's media; the same objects for the same media."""
        if len(visuals) == 1:
            return visuals[0].features
        _, joined = self._sets.get(
            tuple(id(visual) for visual in visuals),
            lambda: (visuals, _concatenated(visuals)),  # what an id stands for lives as long as the entry
            lambda found: 2 * sum(value.nbytes for value in found[1].values()),
        )
        return joined


@dataclass
class Bundle:
    """What a model option returns: the model, how to talk to it, and where it came from."""

    model: Any
    encoder: Encoder
    name: str
    source: str


def completion_mask(completions: Sequence[Sequence[int]], trains: Sequence[Sequence[bool]]) -> Bool[Tensor, "N T"]:
    """(N,T) mask, True where a token trains."""
    width = max((len(c) for c in completions), default=0)
    mask = torch.zeros(len(completions), width, dtype=torch.bool)
    for row, flags in enumerate(trains):
        mask[row, : len(flags)] = torch.tensor(list(flags), dtype=torch.bool)
    return mask


def _note_shrunk(task: Task, visuals: Sequence[Visual]) -> None:
    """Count the media that are shown with fewer tokens than they hold, each of them once in a run."""
    for medium, visual in zip(task.media, visuals, strict=True):
        times = (
            f" from {medium.start_s} s to {medium.end_s} s" if (medium.start_s, medium.end_s) != (None, None) else ""
        )
        for cause, lost in visual.shrunk:
            ledger.current().shrink(cause, f"{medium.path}{times}" if medium.path else f"task {task.id}", lost=lost)


def _parts(visual: Visual, placeholder: str) -> list[int]:
    """The number of tokens of each placeholder of a medium."""
    count = visual.text.count(placeholder) if visual.text else 1
    return [visual.tokens // count] * count


def _written(text: str, visuals: Sequence[Visual], placeholders: Mapping[str, str]) -> str:
    """The prompt's text with the media that are told in parts written out."""
    done = []
    for visual in visuals:
        before, placeholder, text = text.partition(placeholders[visual.kind])
        if visual.text and placeholder:
            before, text = before.removesuffix(visual.wrapper[0]), text.removeprefix(visual.wrapper[1])
        done += [before, visual.text if visual.text and placeholder else placeholder]
    return "".join([*done, text])


def _concatenated(visuals: Sequence[Visual]) -> dict[str, Tensor]:
    names = {name for visual in visuals for name in visual.features}
    return {name: torch.cat([v.features[name] for v in visuals if name in v.features]) for name in sorted(names)}
