"""From a row of a file to a Task: the dataset formats that TRL documents, recognised by their columns."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rlpost.dataset.visual import BadRow, media_of, with_placeholders
from rlpost.errors import DataError
from rlpost.types import Task

ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names
GUESSES = {
    "prompt": ("prompt", "question", "problem"),
    "answer": ("answer", "solution", "ground_truth"),
    "messages": ("messages", "conversations"),
    "completion": ("completion",),
    "text": ("text",),
    "chosen": ("chosen",),
    "rejected": ("rejected",),
    "label": ("label",),
    "id": ("id",),
}
# Whom chat templates give a voice; another name would be written as it stands, or fail in the template.
KNOWN_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "observation", "ipython")
MEDIA = ("image", "images", "video", "videos")


@dataclass(frozen=True)
class Columns:
    """Which column plays which part; None where the dataset has none."""

    prompt: str | None = None
    answer: str | None = None
    messages: str | None = None
    completion: str | None = None
    text: str | None = None
    chosen: str | None = None
    rejected: str | None = None
    label: str | None = None
    id: str | None = None

    @property
    def kind(self) -> str:
        """The format: preference, unpaired, prompt_completion, prompt, messages or text."""
        if self.chosen and self.rejected:
            return "preference"
        if self.completion and self.prompt:
            return "unpaired" if self.label else "prompt_completion"
        if self.prompt:
            return "prompt"
        return "messages" if self.messages else "text"


def resolve(found: Sequence[str], wanted: Columns, source: str) -> Columns:
    """Every part's column: the one asked for, which must exist, or the first usual name that is there."""
    parts = {}
    for field in fields(Columns):
        name = getattr(wanted, field.name)
        if name is not None and name not in found:
            raise DataError(
                f"{source} has no column {name!r} (dataset.{field.name}); it has {', '.join(sorted(found))}"
            )
        parts[field.name] = name or next((guess for guess in GUESSES[field.name] if guess in found), None)
    columns = Columns(**parts)
    if bool(columns.chosen) != bool(columns.rejected):
        missing = "rejected" if columns.chosen else "chosen"
        raise DataError(f"{source} has no column {missing!r} for its pairs; it has {', '.join(sorted(found))}")
    if not any((columns.prompt, columns.messages, columns.text, columns.chosen)):
        raise DataError(
            f"{source} has no column for prompts; it has {', '.join(sorted(found))}. "
            "Name one with dataset.prompt (or dataset.messages, dataset.text)"
        )
    return columns


def to_task(
    row: Mapping[str, Any], columns: Columns, *, id: str, system: str | None, tags: Sequence[str], base: Path | None
) -> Task:
    """One row as a Task; raises BadRow with the cause where it cannot be used. `base` is where relative media lie."""
    missing = [
        name for name in (columns.prompt, columns.messages, columns.chosen, columns.rejected) if _lost(row, name)
    ]
    if missing:
        raise BadRow(f"column {missing[0]!r} is missing")
    prompt, demonstration, extra = _READERS[columns.kind](row, columns)
    _refuse_halves([prompt, demonstration, extra])
    if system and prompt and prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": system}, *prompt]
    media, inline = media_of(row, prompt, base)
    if prompt and not media and not any(_says(message) for message in prompt if message["role"] == "user"):
        raise BadRow("the prompt is empty")
    taken = {columns.prompt, columns.messages, columns.completion, columns.text, *MEDIA}
    rest = {name: value for name, value in row.items() if name not in taken}
    return Task(
        id=str(row[columns.id]) if columns.id and row.get(columns.id) is not None else id,
        prompt=tuple(prompt if inline else with_placeholders(prompt, media)),
        answer=row.get(columns.answer) if columns.answer else None,
        media=media,
        columns={**rest, **extra},
        demonstration=demonstration,
        tags=tuple(str(row[name]) for name in tags if row.get(name) is not None),
    )


def prompt_digest(task: Task) -> str:
    """A stable hash of what is asked, media included: rows with the same question stay on the same side of a split."""
    media = [(m.kind, m.path, m.start_s, m.end_s) for m in task.media]
    asked = [list(task.prompt) or task.demonstration, media]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _lost(row: Mapping[str, Any], name: str | None) -> bool:
    return name is not None and row.get(name) is None


def _prompt(value: Any, name: str) -> list[dict[str, Any]]:
    """Plain text becomes one user message, so that the chat template applies to it."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow("the prompt is empty")
        return [{"role": "user", "content": value}]
    messages = _messages(value, name)
    if not any(message["role"] == "user" for message in messages):
        raise BadRow("the prompt has no user turn")
    return messages


def _messages(value: Any, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise BadRow(f"column {name!r} holds {type(value).__name__}, neither text nor messages")
    if not value:
        raise BadRow(f"column {name!r} is empty")
    found = []
    for message in value:
        if not isinstance(message, Mapping):
            raise BadRow(f"column {name!r} holds a message that is {type(message).__name__}, not role and content")
        role, content = message.get("role") or message.get("from"), message.get("content", message.get("value"))
        if not role or (content is None and not message.get("tool_calls")):
            raise BadRow(f"column {name!r} holds a message without role or content")
        role = ROLES.get(role, role) if isinstance(role, str) else role
        if role not in KNOWN_ROLES:
            raise BadRow(f"column {name!r} holds a message of the unknown role {role!r:.40}")
        if not isinstance(content, str | list | None):
            raise BadRow(f"column {name!r} holds a message whose content is {type(content).__name__}")
        if isinstance(content, list):  # parquet fills the keys of unlike parts with None
            if not all(isinstance(part, Mapping) for part in content):
                raise BadRow(f"column {name!r} holds a message with a part that is not an object")
            content = [{k: v for k, v in part.items() if v is not None} for part in content]
        rest = {k: v for k, v in message.items() if k not in ("role", "from", "content", "value") and v is not None}
        found.append({"role": role, "content": "" if content is None else content, **rest})
    return found


def _says(message: Mapping[str, Any]) -> bool:
    """Whether a message has any text, or a part that is no text."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return any(part.get("type", "text") != "text" or str(part.get("text") or "").strip() for part in parts)


def _refuse_halves(value: Any) -> None:
    """Half a character (a lone surrogate, as `\\ud83d` in JSON) has no bytes, so no tokenizer takes it."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadRow("a text holds half a character (a lone surrogate)") from error
    elif isinstance(value, Mapping):
        _refuse_halves(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            _refuse_halves(one)


def _answer(value: Any, name: str) -> str | list[dict[str, Any]]:
    """An assistant's text, or messages that end with the assistant; a single plain message is its text."""
    if isinstance(value, str):
        if not value.strip():
            raise BadRow(f"column {name!r} is empty")
        return value
    messages = _messages(value, name)
    if messages[-1]["role"] != "assistant":
        raise BadRow(f"column {name!r} has no assistant turn at its end")
    only = messages[0]
    return only["content"] if len(messages) == 1 and isinstance(only["content"], str) else messages


def _read_prompt(row: Mapping[str, Any], columns: Columns) -> tuple[list, Any, dict]:
    return _prompt(row[str(columns.prompt)], str(columns.prompt)), None, {}


def _read_completion(row: Mapping[str, Any], columns: Columns) -> tuple[list, Any, dict]:
    prompt, _, _ = _read_prompt(row, columns)
    answer = _answer(row.get(str(columns.completion)), str(columns.completion))
    if columns.kind != "unpaired":
        return prompt, answer, {}
    label = row.get(str(columns.label))
    if label not in (True, False):
        raise BadRow(f"column {columns.label!r} holds {label!r}, not true or false")
    return prompt, answer, {"label": bool(label)}


def _read_messages(row: Mapping[str, Any], columns: Columns) -> tuple[list, Any, dict]:
    messages = _messages(row[str(columns.messages)], str(columns.messages))
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise BadRow("the conversation has no assistant turn")
    if not any(message["role"] == "user" for message in messages[: turns[0]]):
        raise BadRow("the conversation has no user turn before the assistant's")
    return messages[: turns[0]], _answer(messages[turns[0] : turns[-1] + 1], str(columns.messages)), {}


def _read_text(row: Mapping[str, Any], columns: Columns) -> tuple[list, Any, dict]:
    """Plain text has no prompt: all of it is what the model learns to write."""
    text = row.get(str(columns.text))
    if not isinstance(text, str):
        raise BadRow(f"column {columns.text!r} holds {type(text).__name__}, not text")
    if not text.strip():
        raise BadRow(f"column {columns.text!r} is empty")
    return [], text, {}


def _read_preference(row: Mapping[str, Any], columns: Columns) -> tuple[list, Any, dict]:
    """Explicit pairs have a prompt column; implicit ones begin with the same turns, or the same text."""
    chosen, rejected = row[str(columns.chosen)], row[str(columns.rejected)]
    given = row.get(columns.prompt) if columns.prompt else None
    if type(chosen) is not type(rejected):
        raise BadRow("chosen is text and rejected is messages, or the other way round")
    if given is not None and not _repeats(given, chosen, rejected):
        prompt = _prompt(given, str(columns.prompt))
    else:
        shared = _shared(chosen, rejected)
        prompt = _prompt(chosen[:shared], str(columns.chosen))
        chosen, rejected = chosen[shared:], rejected[shared:]
    pair = {"chosen": _answer(chosen, str(columns.chosen)), "rejected": _answer(rejected, str(columns.rejected))}
    if pair["chosen"] == pair["rejected"]:
        raise BadRow("chosen and rejected are the same")
    return prompt, None, pair


def _repeats(prompt: Any, chosen: Any, rejected: Any) -> bool:
    """A dataset may give the prompt as text and again as the first turns of both conversations; the turns count."""
    return isinstance(prompt, str) and isinstance(chosen, list) and _shared(chosen, rejected) > 0


def _shared(chosen: Any, rejected: Any) -> int:
    """Length of the common beginning. In text it ends before a space, so that no word is cut in two."""
    if not isinstance(chosen, str | list):
        raise BadRow(f"chosen holds {type(chosen).__name__}, neither text nor messages")
    same = 0
    for a, b in zip(chosen, rejected, strict=False):
        if a != b:
            break
        same += 1
    return chosen[:same].rfind(" ") if isinstance(chosen, str) and " " in chosen[:same] else same


_READERS = {
    "prompt": _read_prompt,
    "prompt_completion": _read_completion,
    "unpaired": _read_completion,
    "messages": _read_messages,
    "text": _read_text,
    "preference": _read_preference,
}
