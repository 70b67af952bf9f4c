"""Tool calls in what a model wrote: by the tokenizer's own description of its format, else as plain JSON."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlpost import foreign
from rlpost.errors import ModelError
from rlpost.models.encode import Encoder

TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
FENCED = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """One call; `problem` says in words why it cannot be made."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def calls(text: str, tools: Sequence[Mapping[str, Any]], encoder: Encoder) -> list[Call]:
    """The calls in an utterance, in order; what is marked as a call and is none is a Call with a `problem`.

    A tokenizer with a `response_template` reads its own model's format. Without one, or where it finds nothing, a call
    is a JSON object with `name` and `arguments` (or `parameters`) inside <tool_call> tags, in a fenced block, or as the
    whole text; outside tags the name must be that of a tool.
    """
    names = [tool["function"]["name"] for tool in tools]
    found = _by_template(text, tools, encoder)
    if found:
        return found
    tagged = [body for body in TAGGED.findall(text) if body.strip()]
    if tagged:
        return [_call(body) for body in tagged]
    loose = [_call(body) for body in FENCED.findall(text) or [text]]
    return [call for call in loose if call.name in names]


def schemas(methods: Collection[Any]) -> list[dict[str, Any]]:
    """JSON schemas of typed functions, from annotations and docstrings (Google style).

    Raises ModelError, in a sentence, for a function without annotations or descriptions.
    """
    from transformers.utils import get_json_schema

    found = []
    for method in methods:
        try:
            found.append(get_json_schema(method))
        except Exception as error:  # transformers raises several kinds, all of them about the function
            raise ModelError(
                f"the tool {getattr(method, '__qualname__', method)} has no schema ({error}); give every argument a "
                "type and a line in a docstring with an Args section"
            ) from error
    return found


def _by_template(text: str, tools: Sequence[Mapping[str, Any]], encoder: Encoder) -> list[Call]:
    tokenizer = encoder.tokenizer
    if getattr(tokenizer, "response_template", None) is None:
        return []
    try:
        parsed = tokenizer.parse_response(text, prefix="", tools=list(tools))
        given = parsed.get("tool_calls") or []
        return [_checked(call.get("function", call)) for call in given]
    # What it cannot read is no call in its format.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _call(body: str) -> Call:
    try:
        return _checked(foreign.parsed(body.strip()))
    except ValueError as error:
        return Call("", problem=f"a tool call must be a JSON object with name and arguments: {error}")


def _checked(given: Any) -> Call:
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        return Call("", problem="a tool call must be a JSON object with name and arguments")
    arguments = given.get("arguments", given.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = foreign.parsed(arguments)
        except ValueError:
            return Call(given["name"], problem="the arguments of a tool call must be a JSON object")
    if not isinstance(arguments, Mapping):
        return Call(given["name"], problem="the arguments of a tool call must be a JSON object")
    return Call(given["name"], dict(arguments))
