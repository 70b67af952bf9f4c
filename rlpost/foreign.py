"""Text that a model, a tool or a server wrote, read without trust in it."""

import json
from typing import Any


def parsed(text: str | bytes) -> Any:
    """JSON as data. Raises ValueError where it is none, also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def whole(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair: JSON may hold one alone, a tokenizer may not."""
    return text.encode("utf-8", "replace").decode()
