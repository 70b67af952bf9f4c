"""Images and videos of a row, and their placeholders in its messages."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rlpost.types import Media

COLUMNS: dict[str, Literal["image", "video"]] = {
    "image": "image",
    "images": "image",
    "video": "video",
    "videos": "video",
}
INLINE = ("image", "video", "path", "url")


class BadRow(Exception):
    """A row that cannot be used; the message is the cause that the ledger counts."""


def media_of(
    row: Mapping[str, Any], prompt: Sequence[Mapping[str, Any]], base: Path | None
) -> tuple[tuple[Media, ...], bool]:
    """Media of a row in order, and whether the messages themselves name them; columns come before inline parts."""
    found = [
        _media(value, kind, base)
        for name, kind in COLUMNS.items()
        if row.get(name) is not None
        for value in (row[name] if isinstance(row[name], list) else [row[name]])
    ]
    if found:
        return tuple(found), False
    inline = [
        _media(part[key], part["type"], base)
        for part in _parts(prompt)
        for key in INLINE
        if part.get("type") in ("image", "video") and part.get(key) is not None
    ]
    return tuple(inline), bool(inline)


def with_placeholders(prompt: Sequence[Mapping[str, Any]], media: Sequence[Media]) -> list[dict[str, Any]]:
    """The messages with one placeholder per medium: those written are kept, else they open the first user turn."""
    messages = [dict(message) for message in prompt]
    if not media or any(part.get("type") in ("image", "video") for part in _parts(messages)):
        return messages
    for message in messages:
        if message["role"] == "user":
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
            message["content"] = [{"type": medium.kind} for medium in media] + parts
            break
    return messages


def _parts(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [part for message in messages if isinstance(message["content"], list) for part in message["content"]]


def _media(value: Any, kind: Literal["image", "video"], base: Path | None) -> Media:
    """A path, a {path, bytes} pair as `datasets` stores it, or a PIL image."""
    if isinstance(value, str):
        path = Path(value).expanduser()
        path = path if path.is_absolute() or base is None else base / path
        if not path.exists():
            raise BadRow(f"a {kind} file does not exist")
        return Media(kind, path=str(path))
    if isinstance(value, Mapping):
        if value.get("bytes") is not None and kind == "image":
            return Media(kind, frames=_pixels(io.BytesIO(value["bytes"])))
        if value.get("path"):
            return _media(value["path"], kind, base)
    if kind == "image" and hasattr(value, "convert"):
        return Media(kind, frames=_pixels(value))
    raise BadRow(
        f"a {kind} is given as {type(value).__name__}, not as a path{' or an image' if kind == 'image' else ''}"
    )


def _pixels(image: Any) -> Any:
    import numpy as np

    if isinstance(image, io.BytesIO):
        from PIL import Image, UnidentifiedImageError

        try:
            image = Image.open(image)
        except (UnidentifiedImageError, OSError) as error:
            raise BadRow("an image cannot be decoded") from error
    return np.asarray(image.convert("RGB"))
