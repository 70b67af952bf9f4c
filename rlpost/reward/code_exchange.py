"""Values as text between the judge of a program and the program: plain data by copy, everything else by reference.

Both sides import it inside the sandbox. Only exact built-in types come out of `decode`, so that a value cannot bring
its own idea of equality.
"""

from collections.abc import Callable
from typing import Any

_MANY = {"l": list, "t": tuple, "s": set, "f": frozenset}


class Uncrossable(Exception):
    """A value that is no plain data and that this side cannot refer to."""


def encode(value: Any, refer: Callable[[Any], dict[str, Any]]) -> Any:
    """JSON for a value; `refer` names what is no plain data, or raises Uncrossable."""
    if value is None or isinstance(value, bool | float | str):
        return _plain(value)
    if isinstance(value, int):
        return {"i": hex(value)}
    if isinstance(value, complex):
        return {"c": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {"b" if isinstance(value, bytes) else "a": value.hex()}
    if isinstance(value, dict):
        return {"d": [[encode(key, refer), encode(item, refer)] for key, item in value.items()]}
    for tag, kind in _MANY.items():
        if isinstance(value, kind):
            return {tag: [encode(item, refer) for item in value]}
    if hasattr(type(value), "tolist"):  # arrays and their numbers
        return encode(value.tolist(), refer)
    return refer(value)


def _plain(value: Any) -> Any:
    """A subclass of str or float would print itself in JSON as it likes."""
    if isinstance(value, str):
        return str.__str__(value)
    return float.__float__(value) if isinstance(value, float) else value


def decode(data: Any, resolve: Callable[[dict[str, Any]], Any]) -> Any:
    """The value; `resolve` turns a reference of the other side into an object. ValueError for anything else."""
    if not isinstance(data, dict):
        if data is None or isinstance(data, bool | float | str):
            return data
        raise ValueError(f"no encoded value: {data!r:.80}")
    if len(data) != 1:
        raise ValueError("an encoded value has one tag")
    tag, body = next(iter(data.items()))
    if tag in _MANY:
        return _MANY[tag](decode(item, resolve) for item in body)
    if tag == "d":
        return {decode(key, resolve): decode(item, resolve) for key, item in body}
    if tag == "i":
        return int(body, 16)
    if tag == "c":
        return complex(*body)
    if tag in "ab":
        return bytes.fromhex(body) if tag == "b" else bytearray.fromhex(body)
    return resolve(data)
