"""How a tokenizer's chat template writes tools, and what stands between an utterance and the next one.

A template that knows tools gets them as its own `tools`; for others they are told in a system message. Results have the
role "tool" where the template shows it, else "user".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlpost.environment.protocol import Message
from rlpost.errors import ModelError
from rlpost.foreign import whole
from rlpost.models.encode import Encoder
from rlpost.types import Task

_NAME, _SAID = "rlpost_tool_name", "rlpost_tool_result"
_PROBE = {
    "type": "function",
    "function": {"name": _NAME, "description": "probe", "parameters": {"type": "object", "properties": {}}},
}
TOLD = (
    "You can use these tools:\n{tools}\n"
    'To use one, write <tool_call>{{"name": "...", "arguments": {{...}}}}</tool_call> and end your turn. '
    "You are then told the result."
)


@dataclass(frozen=True)
class Dialogue:
    """Writes one environment's tools and messages. `encoder` renders prompts with the tools in them."""

    encoder: Encoder
    told: str = ""  # what a system message says of the tools, where the template knows none
    role: str = "tool"
    system: bool = True  # the template shows a system message

    def opened(self, task: Task) -> Task:
        """The task with the tools in its system message, or in its first where the template has none of that kind."""
        if not self.told or not task.prompt:
            return task
        messages = [dict(message) for message in task.prompt]
        if not self.system or messages[0]["role"] == "system":
            messages[0]["content"] = _joined(messages[0]["content"], f"\n\n{self.told}")
        else:
            messages.insert(0, {"role": "system", "content": self.told})
        return replace(task, prompt=tuple(messages))

    def results(self, found: Sequence[tuple[str, str]]) -> list[Message]:
        """The messages that tell what tools returned, from (name, content): one from the user, or one for each."""
        if self.role == "tool":
            return [{"role": "tool", "name": whole(name), "content": whole(content)} for name, content in found]
        return [{"role": "user", "content": whole("\n".join(content for _, content in found))}] if found else []

    def between(self, messages: Sequence[Message]) -> list[int]:
        """The tokens from the end of an utterance's stop token to the beginning of the next utterance.

        Raises ModelError where the template, or the tokenizer, writes earlier turns otherwise once these follow: then a
        conversation has no single row of tokens.
        """
        opening = [{"role": "user", "content": "u"}, _utterance(messages)]
        before = self._closed(_render(self.encoder, opening, generation=False))
        after = _render(self.encoder, [*opening, *messages], generation=True)
        ids = self._ids(after[len(before) :])
        if not after.startswith(before) or self._ids(after) != [*self._ids(before), *ids]:
            raise ModelError(
                "the chat template writes earlier turns otherwise when another follows, so a conversation is no single "
                "row of tokens; set rollout.rows=turn, or model.chat_template to a template that only appends"
            )
        return ids

    def _closed(self, text: str) -> str:
        """The text up to its last stop token: what a template writes behind one is not the utterance's."""
        names = [self.encoder.tokenizer.convert_ids_to_tokens(i) for i in self.encoder.stop_ids]
        ends = [text.rfind(name) + len(name) for name in names if name and name in text]
        return text[: max(ends)] if ends else text

    def _ids(self, text: str) -> list[int]:
        return list(self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"])


def dialogue(encoder: Encoder, tools: Sequence[Mapping[str, Any]]) -> Dialogue:
    """How this encoder's template takes these tools, found by rendering."""
    if not tools:
        return Dialogue(encoder, role="user")
    role = "tool" if _shows(encoder, _SAID, [*_exchange()]) else "user"
    probing = replace(encoder, template_kwargs={**encoder.template_kwargs, "tools": [_PROBE]})
    if _shows(probing, _NAME, [{"role": "user", "content": "u"}]):
        known = replace(encoder, template_kwargs={**encoder.template_kwargs, "tools": list(tools)})
        return Dialogue(known, role=role)
    listed = "\n".join(json.dumps(tool["function"]) for tool in tools)
    system = _shows(encoder, _SAID, [{"role": "system", "content": _SAID}, {"role": "user", "content": "u"}])
    return Dialogue(encoder, TOLD.format(tools=listed), role, system)


def _exchange() -> list[Message]:
    result = {"role": "tool", "name": _NAME, "content": _SAID}
    return [{"role": "user", "content": "u"}, _utterance([result]), result]


def _utterance(messages: Sequence[Message]) -> Message:
    """An utterance that the messages answer: one with a call where they are results, since templates look for it."""
    said: dict[str, Any] = {"role": "assistant", "content": "a"}
    if messages and messages[0]["role"] == "tool":
        call = {"type": "function", "function": {"name": messages[0].get("name", _NAME), "arguments": {}}}
        said["tool_calls"] = [call]
    return said


def _shows(encoder: Encoder, text: str, messages: Sequence[Message]) -> bool:
    try:
        return text in _render(encoder, messages, generation=False)
    except Exception:  # a template refuses roles by raising whatever it likes
        return False


def _render(encoder: Encoder, messages: Sequence[Message], *, generation: bool) -> str:
    return encoder.tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=generation, **encoder.template_kwargs
    )


def _joined(content: Any, more: str) -> Any:
    return content + more if isinstance(content, str) else [*content, {"type": "text", "text": more}]
