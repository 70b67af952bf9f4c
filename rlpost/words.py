"""Suggestions for misspelt words."""

import difflib
from collections.abc import Iterable


def near(word: str, words: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `words`, or nothing."""
    found = difflib.get_close_matches(word, list(words), 1, 0.55)
    return f"; did you mean {found[0]!r}?" if found else ""
