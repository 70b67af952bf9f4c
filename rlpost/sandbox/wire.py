"""Messages between client and supervisor: a JSON header and raw bytes, both with their length in front."""

import json
import socket
import struct
from typing import Any

RESULT_FD = 3  # where a called function's value goes

_HEAD = struct.Struct("=II")


class Closed(ConnectionError):
    """The other side went away in the middle of a message."""


def send(connection: socket.socket, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    connection.sendall(_HEAD.pack(len(text), len(body)) + text + body)


def receive(connection: socket.socket) -> tuple[dict[str, Any], bytes]:
    """The next message; raises Closed at an early end and TimeoutError by the socket's own limit."""
    size, length = _HEAD.unpack(_exactly(connection, _HEAD.size))
    return json.loads(_exactly(connection, size)), _exactly(connection, length)


def _exactly(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray()
    while len(buffer) < size:
        chunk = connection.recv(min(size - len(buffer), 1 << 20))
        if not chunk:
            raise Closed(f"the connection ended after {len(buffer)} of {size} bytes")
        buffer += chunk
    return bytes(buffer)


def split_body(request: dict[str, Any], body: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Standard input and the files, which lie one after the other."""
    place = request["stdin"]
    stdin, files = body[:place], []
    for name, size in request["files"]:
        files.append((name, body[place : place + size]))
        place += size
    return stdin, files


def first_line(text: bytes) -> dict[str, Any]:
    """The first record that a status pipe carried; empty where there is none."""
    line = text.partition(b"\n")[0]
    return json.loads(line) if line else {}
