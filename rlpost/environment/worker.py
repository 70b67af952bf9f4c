"""The process that holds a user's class, apart from the trainer: run as a script, it forks one child per instance.

It imports the class once. Each connection that its parent sends becomes a child with an instance of its own, which
answers requests until the connection ends. A child that hangs is killed by the trainer; nothing else notices.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import os
import pickle
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from rlpost.sandbox import kernel, wire


def main(control: socket.socket, path: str, memory_mb: int) -> None:
    """Import the class, say so, and fork a child for every connection until the parent is gone."""
    try:
        made = load(path)
    except Exception as error:
        control.send(f"{type(error).__name__}: {error}".encode())
        return
    control.send(b"ready")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave no zombies
    while True:
        message, handles, _, _ = socket.recv_fds(control, 64, 1)
        if not message or not handles:
            return
        connection = socket.socket(fileno=handles[0])
        if os.fork() == 0:
            control.close()
            with contextlib.suppress(ConnectionError):
                _child(connection, made, memory_mb)
            os._exit(0)
        connection.close()


def load(path: str) -> Any:
    """The class that `package.module.Class` or `file.py:Class` names."""
    place, colon, name = path.rpartition(":")
    if not colon:
        place, _, name = path.rpartition(".")
    if not place or not name:
        raise ImportError(f"{path!r} names no class; write package.module.Class or file.py:Class")
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    spec = importlib.util.spec_from_file_location(f"rlpost_environment_{Path(place).stem}", Path(place).expanduser())
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def _child(connection: socket.socket, made: Any, memory_mb: int) -> None:
    os.setsid()  # what a tool starts is killed with it
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if sys.platform == "linux":
        kernel.die_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    wire.send(connection, {"pid": os.getpid()}, b"")
    instance: Any = None
    while True:
        request, body = wire.receive(connection)
        try:
            given = pickle.loads(body)  # from our own parent
            instance = made() if instance is None else instance
            value = getattr(instance, request["method"])(**given)
            value = _plain(asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)
            reply = {"value": value}
            if isinstance(value, str):  # cut here, so that a tool that says much fills its own memory alone
                reply = {"value": value[: request["most"]], "length": len(value)}
        except _Refused as error:
            reply = {"refused": str(error)}
        except Exception as error:
            reply = {"error": type(error).__name__, "text": str(error)[:2000]}
        wire.send(connection, reply, b"")


class _Refused(Exception):
    """The method did its work, and what it returned cannot be shown to the policy."""


async def _awaited(value: Any) -> Any:
    return await value


def _plain(value: Any) -> Any:
    """What can cross: numbers, text and None as they are, the joined texts of content blocks, the text of all else."""
    if isinstance(value, list) and value and all(isinstance(part, dict) and "type" in part for part in value):
        others = sorted({str(part["type"]) for part in value} - {"text"})
        if others:
            raise _Refused(f"returned content of the type {', '.join(others)}, and only text can be shown here")
        return "".join(str(part["text"]) for part in value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3]))
