"""Tools for tests of calls."""

import os
import time


def echo(text: str, times: int = 1) -> dict[str, str]:
    """A tool."""
    print("working")
    return {"text": text * times}


def odd(kind: str) -> object:
    """A tool that misbehaves in a named way."""
    if kind == "hang":
        time.sleep(300)
    if kind == "raise":
        raise ValueError("no such city")
    if kind == "leave":
        os._exit(0)
    return {1, 2} if kind == "set" else "x" * 1_000_000
