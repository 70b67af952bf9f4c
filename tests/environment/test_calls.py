"""Tool calls in text, and how tools and observations are written for a chat template."""

import pytest
from trl import chat_template_utils

from rlpost.environment.calculator import Calculator
from rlpost.environment.calls import Call, calls, schemas
from rlpost.environment.dialogue import dialogue
from rlpost.errors import ModelError
from rlpost.models import tiny
from rlpost.models.encode import Encoder
from rlpost.types import Task
from tests.rollout.scripted import ENCODER

TOOLS = schemas([Calculator().calculate])
GOOD = '{"name": "calculate", "arguments": {"expression": "1 + 2"}}'
WANTED = Call("calculate", {"expression": "1 + 2"})
RESULT = {"role": "tool", "name": "calculate", "content": "3"}


def encoder_with(template: str) -> Encoder:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = template
    return Encoder(tokenizer)


def qwen() -> Encoder:
    return encoder_with(chat_template_utils.qwen2_5_chat_template)


@pytest.mark.parametrize("text", [
    f"<tool_call>{GOOD}</tool_call>", f"thinking\n<tool_call>\n{GOOD}\n</tool_call>", f"<tool_call>{GOOD}",
    f"```json\n{GOOD}\n```", f"I use it:\n```\n{GOOD}\n```\nwait", GOOD, f"  {GOOD}\n",
    GOOD.replace("arguments", "parameters"),
    '<tool_call>{"name": "calculate", "arguments": "{\\"expression\\": \\"1 + 2\\"}"}',
])  # fmt: skip
def test_json_calls(text):
    assert calls(text, TOOLS, ENCODER) == [WANTED]


def test_several_calls_in_order():
    found = calls(f"<tool_call>{GOOD}</tool_call> and <tool_call>{GOOD.replace('1', '5')}</tool_call>", TOOLS, ENCODER)
    assert found == [WANTED, Call("calculate", {"expression": "5 + 2"})]


@pytest.mark.parametrize(
    "text", ["3", '{"name": "other", "arguments": {}}', '{"a": 1}', "[1]", "", "<tool_call></tool_call>"]
)
def test_text_that_calls_nothing(text):
    assert calls(text, TOOLS, ENCODER) == []


DEEP = "[" * 100_000


@pytest.mark.parametrize("body", ["nonsense", DEEP, f'{{"name": "calculate", "arguments": "{DEEP}"}}',
                                  "[1, 2]", '{"arguments": {}}', '{"name": "calculate", "arguments": [1]}',
                                  '{"name": "calculate", "arguments": "1 + 2"}'])  # fmt: skip
def test_a_marked_call_that_is_none_has_a_problem(body):
    (found,) = calls(f"<tool_call>{body}</tool_call>", TOOLS, ENCODER)
    assert "JSON object" in found.problem and not found.arguments


def test_the_tokenizers_own_format_comes_first():
    encoder = encoder_with(tiny.TEMPLATE)
    encoder.tokenizer.response_template = chat_template_utils.add_response_schema(qwen().tokenizer).response_template
    assert calls(f"so <tool_call>\n{GOOD}\n</tool_call>", TOOLS, encoder) == [WANTED]
    assert calls(f"```\n{GOOD}\n```", TOOLS, encoder) == [WANTED], "the fallback stays"
    assert calls("so 3", TOOLS, encoder) == []


def test_a_template_without_tools_is_told_in_words():
    speech = dialogue(ENCODER, TOOLS)
    opened = speech.opened(Task("t", [{"role": "user", "content": "1 + 2"}]))
    assert [m["role"] for m in opened.prompt] == ["system", "user"]
    assert '"name": "calculate"' in opened.prompt[0]["content"] and "<tool_call>" in opened.prompt[0]["content"]
    assert speech.results([("calculate", "3")] * 2) == [RESULT] * 2
    kept = speech.opened(Task("t", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1"}]))
    assert kept.prompt[0]["content"].startswith("Be brief.\n\nYou can use") and len(kept.prompt) == 2


def test_a_template_with_tools_gets_them():
    speech, task = dialogue(qwen(), TOOLS), Task("t", [{"role": "user", "content": "1 + 2"}])
    assert speech.opened(task) is task
    text = speech.encoder.tokenizer.decode(speech.encoder.prompt(task).ids)
    assert "# Tools" in text and '"name": "calculate"' in text
    assert dialogue(qwen(), []).encoder.template_kwargs == {}


REFUSES = (
    "{% for m in messages %}{% if m.role not in ('user', 'assistant') %}{{ raise_exception('no') }}{% endif %}"
    "<|im_start|>{{ m.role }}:{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant:{% endif %}"
)


def test_half_a_character_becomes_a_question_mark():
    """JSON may hold half a surrogate pair, which a tool may say again; a tokenizer takes no such text."""
    for encoder in (ENCODER, qwen()):
        talk = dialogue(encoder, TOOLS)
        (message,) = talk.results([("calc\ud83dulate", "no \ud83d here")])
        assert message["content"] == "no ? here" and message.get("name", "calc?ulate") == "calc?ulate"
        assert "no ? here" in encoder.tokenizer.decode(talk.between([message]))


def test_a_template_that_refuses_results_gets_them_from_the_user():
    speech = dialogue(encoder_with(REFUSES), TOOLS)
    assert speech.results([("calculate", "3"), ("calculate", "4")]) == [{"role": "user", "content": "3\n4"}]
    (only,) = speech.opened(Task("t", [{"role": "user", "content": "1 + 2"}])).prompt
    assert only["role"] == "user" and only["content"].startswith("1 + 2\n\nYou can use")


@pytest.mark.parametrize("encoder", [ENCODER, qwen(), encoder_with(REFUSES)])
def test_observations_are_the_templates_tokens(encoder):
    """What is appended to sampled tokens is what the template writes into the whole conversation."""
    speech = dialogue(encoder, TOOLS)
    decode = encoder.tokenizer.decode
    messages = speech.results([("calculate", "3"), ("calculate", "4")])
    prompt = speech.opened(Task("t", [{"role": "user", "content": "1 + 2"}])).prompt
    said = {"role": "assistant", "content": "hm"}
    whole = speech.encoder.tokenizer.apply_chat_template(
        [*prompt, said, *messages], tokenize=False, add_generation_prompt=True, **speech.encoder.template_kwargs
    )
    start = decode(speech.encoder.prompt(Task("t", prompt)).ids)
    assert start + "hm<|im_end|>" + decode(speech.between(messages)) == whole


FORGETS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}:{% if loop.last %}(last) {% endif %}{{ m.content }}<|im_end|>"
    "{% endfor %}"
)


def test_a_template_that_rewrites_earlier_turns_is_refused():
    with pytest.raises(ModelError, match=r"rollout\.rows=turn"):
        dialogue(encoder_with(FORGETS), TOOLS).between([RESULT])
