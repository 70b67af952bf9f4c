"""The form of a program: blocks that parse, blocks that do not, and texts that only look like one."""

import pytest

from rlpost.reward.code_form import code_format
from tests.reward.rows import rollout


def score(text, **knobs):
    return code_format([rollout(text)], **knobs)[0]


def test_a_block_that_parses_one_that_does_not_and_none():
    assert score("So:\n```python\ndef f(x):\n    return x + 1\n```\n") == 1.0
    assert score("```\nx = 1\n```") == 1.0
    assert score("```python\ndef f(x) return x\n```") == 0.5
    assert score("```python\ndef f(x) return x\n```", broken=0.0) == 0.0
    assert score("def f(x):\n    return x + 1") == 0.0


@pytest.mark.parametrize(
    "text", ["", "```python\n```", "```python\n   \n```", "```js\nx = 1\n```", "```python x = 1", "Write f."]
)
def test_what_is_no_block_of_python_gets_nothing(text):
    assert score(text) == 0.0


def test_the_last_block_counts_and_thoughts_do_not():
    assert score("```python\nx = 1\n```\nor\n```python\nx = = 1\n```") == 0.5
    assert score("<think>\n```python\nx = 1\n```\n</think>\nI cannot.") == 0.0


def test_text_that_is_made_to_hurt_the_parser_does_not():
    for code in ("(" * 5000, "-" * 100_000 + "1", "x = '\0'", "[" * 150 + "]" * 150 + "\n" * 10 + "'\\d'"):
        assert score(f"```python\n{code}\n```") in (0.5, 1.0)
