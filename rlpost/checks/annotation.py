"""Does a YAML value fit an annotation? The annotation is text read from source; what is not simple is not judged."""

import ast
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from rlpost.words import near

NAMES: dict[str, Any] = {
    "float": float,
    "int": int,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "None": type(None),
    "NoneType": type(None),
    "Any": Any,
    "Literal": typing.Literal,
    "Sequence": Sequence,
    "Mapping": Mapping,
    "Optional": typing.Optional,
    "Union": typing.Union,
}


class _Unknown(Exception):
    """An annotation names something that is not a simple type."""


def wrong(value: Any, annotation: str, aliases: Mapping[str, str] | None = None) -> str | None:
    """Why `value` does not fit, as the rest of a sentence, or None where it fits or cannot be judged."""
    kind = resolve(annotation, tuple(sorted((aliases or {}).items())))
    if kind is None or _fits(value, kind):
        return None
    legal = _choices(kind)
    if legal and (isinstance(value, str) or all(not isinstance(x, str) for x in legal)):
        hint = near(value, [x for x in legal if isinstance(x, str)]) if isinstance(value, str) else ""
        return f"must be one of {', '.join(map(repr, legal))}{hint}"
    return f"must be {_words(annotation, kind)}, not {_a(value)}"


def allows_float(annotation: str, aliases: Mapping[str, str] | None = None) -> bool:
    """True where a number that changes with time makes sense: float, a union with it, or an annotation unknown here."""
    kind = resolve(annotation, tuple(sorted((aliases or {}).items())))
    return kind is None or kind is Any or float in (kind, *typing.get_args(kind))


@functools.cache
def resolve(annotation: str, aliases: tuple[tuple[str, str], ...] = ()) -> Any:
    """The type an annotation means, None where it names anything but simple types."""
    try:
        return _evaluate(ast.parse(annotation, mode="eval").body, dict(aliases))
    except (_Unknown, SyntaxError, TypeError):
        return None


def _evaluate(node: ast.expr, aliases: Mapping[str, str]) -> Any:
    if isinstance(node, ast.Constant) and node.value is None:
        return type(None)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _evaluate(ast.parse(node.value, mode="eval").body, aliases)
    if isinstance(node, ast.Constant) and node.value is Ellipsis:
        return Ellipsis
    if isinstance(node, ast.Attribute):
        node = ast.Name(node.attr) if ast.unparse(node.value) in ("typing", "collections.abc") else node
    if isinstance(node, ast.Name):
        if node.id in NAMES:
            return NAMES[node.id]
        if node.id in aliases:
            others = {name: text for name, text in aliases.items() if name != node.id}
            return _evaluate(ast.parse(aliases[node.id], mode="eval").body, others)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return typing.Union[_evaluate(node.left, aliases), _evaluate(node.right, aliases)]  # noqa: UP007 (built at run time)
    if isinstance(node, ast.Subscript):
        head = _evaluate(node.value, aliases)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head is typing.Literal:
            return typing.Literal[tuple(ast.literal_eval(x) for x in inner)]
        parts = [_evaluate(x, aliases) for x in inner]
        return head[tuple(parts) if len(parts) > 1 else parts[0]]
    raise _Unknown(ast.unparse(node))


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _fits(value: Any, kind: Any) -> bool:
    try:
        made = _adapter(kind).validate_python(value)
    except pydantic.ValidationError:
        return False
    return _same(value, made)


def _same(value: Any, made: Any) -> bool:
    """Nothing was converted but int to float and list to tuple: the function gets what the YAML says."""
    if isinstance(value, list | tuple):
        return isinstance(made, list | tuple) and len(value) == len(made) and all(map(_same, value, made))
    if isinstance(value, dict):
        return isinstance(made, Mapping) and list(value) == list(made) and all(_same(value[k], made[k]) for k in value)
    if type(value) is int and type(made) is float:
        return True
    return type(value) is type(made)


def _choices(kind: Any) -> list[Any]:
    parts = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return [x for part in parts if typing.get_origin(part) is typing.Literal for x in typing.get_args(part)]


def _words(annotation: str, kind: Any) -> str:
    plain = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
    if kind in plain:
        return plain[kind]
    parts = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else ()
    if parts and all(p in plain or p is type(None) for p in parts):
        return " or ".join("null" if p is type(None) else plain[p] for p in parts)
    return annotation.replace("None", "null")


def _a(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {str: "the text ", list: "the list ", dict: "the mapping "}
    return f"{kinds.get(type(value), '')}{value!r}"
