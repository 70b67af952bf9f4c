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
        if value.startswith(("http://", "https://")):
            raise BadRow(f"{kind}: an address on the network; download it")
        path = known(value, base)
        if path is None or not path.is_file():
            raise BadRow(f"a {kind} file does not exist")
        return Media(kind, path=str(path))
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes) and kind == "image":
            return Media(kind, frames=_pixels(io.BytesIO(value["bytes"])))
        if isinstance(value.get("path"), str) and value["path"]:
            return _media(value["path"], kind, base)
    if kind == "image" and hasattr(value, "convert"):
        return Media(kind, frames=_pixels(value))
    raise BadRow(
        f"a {kind} is given as {type(value).__name__}, not as a path{' or an image' if kind == 'image' else ''}"
    )


def _pixels(image: Any) -> Any:
    from rlpost.media import picture

    try:
        return picture.rgb(picture.opened(image) if isinstance(image, io.BytesIO) else image)
    except Exception as error:  # every format of PIL has errors of its own
        raise BadRow("an image cannot be decoded") from error


def known(path: str, base: Path | None = None) -> Path | None:
    """The path, from `base` where it is relative; None where no file can have this name."""
    try:
        place = Path(path).expanduser()
        place = place if place.is_absolute() or base is None else base / place
        place.exists()  # raises where the name is too long, or holds what no file name can
    except (OSError, ValueError, RuntimeError):  # RuntimeError: the home of a user that is not there
        return None
    return place
