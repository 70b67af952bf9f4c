"""The gold answer scores full marks; near misses, empty texts, prompt echoes and lists of guesses do not."""

import pytest

from rlpost.reward.correct import boxed, correct, number
from tests.reward.rows import rollout


def score(text, answer="19", **knobs):
    return correct([rollout(text, answer)], **knobs)[0]


@pytest.mark.parametrize(
    "text",
    [
        "19",
        " 19.\n",
        "7 + 12 = 19",
        "The answer is 19.",
        "The answer is 7 + 12 = 19. It exceeds 12.",
        "Answer: 19\n\n7 and 12",
        "<think>12, 18?</think><answer>19</answer>",
        "\\boxed{19}",
        "19.0",
        "+19",
        "It is **19**.",
        "$19",
        "<answer>19 km/h</answer>",
        "The answer is x = 19",
        "<answer>19 (exactly)</answer>",
    ],
)
def test_full_marks(text):
    assert score(text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "20",
        "-19",
        "119",
        "1.9",
        "19.5",
        "1,900",
        "a19",
        "nineteen",
        "Calculate 7 + 12.",  # the prompt echoed
        "Calculate 7 + 12. Reply with only the number.",
        "12 13 14 15 16 17 18 19 20 19",  # more than max_numbers guesses
        "<answer>19</answer><answer>20</answer>",  # two answers
        "<answer>18 or 19</answer>",
        "\\boxed{18} or \\boxed{19}",
        "The answer is 20, although 19 was close to it",
        "<answer>x + 19</answer>",
        "The answer is 19/k.",
        "\\boxed{19(x-y) + (z)*19}",
    ],
)
def test_no_marks(text):
    assert score(text) == 0.0


def test_extract_says_what_counts_as_the_answer():
    said = ["**19**.", "7 + 12 = 19", "<answer>19</answer>"]
    assert [score(text, extract="only") for text in said] == [1.0, 0.0, 0.0]
    assert [score(text, extract="final") for text in said] == [1.0, 1.0, 1.0]
    assert [score(text, extract="marked") for text in said] == [0.0, 0.0, 1.0]


def test_numbers_compare_as_numbers_within_the_tolerance():
    assert score("1,000", answer=1000) == 1.0
    assert score("1000.0", answer="1,000") == 1.0
    assert [score("103", answer=100, tolerance=t) for t in (0.029, 0.03)] == [0.0, 1.0]
    assert score("−4", answer="-4") == 1.0  # the typographic minus
    assert score("<answer>it's -4</answer>", answer="-4") == 1.0


def test_other_answers_compare_as_text():
    assert score("<answer> The  Eiffel tower. </answer>", answer="the Eiffel Tower") == 1.0
    assert score("The Eiffel", answer="the Eiffel Tower") == 0.0
    assert score("I think so.\nParis", answer="paris") == 1.0
    assert score("", answer="paris") == 0.0


def test_a_task_without_an_answer_has_no_score():
    assert correct([rollout("19", None), rollout("19", "19"), rollout("18", "19")]) == [None, 1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "value"), [("$1,000.50", 1000.5), ("3 or 4", None), ("", None), ("x", None), ("=5", 5)]
)
def test_number(text, value):
    found = number(text)
    assert (None if found is None else float(found)) == value


def test_a_box_is_right_wrong_or_missing():
    texts = ["It is \\boxed{19}.", "\\boxed{20}", "19", "", "\\boxed{19} or \\boxed{20}", "\\boxed{19} so \\boxed{19}"]
    assert boxed([rollout(text, "19") for text in texts]) == [2.0, -1.5, -2.0, -2.0, -1.5, 2.0]
    assert boxed([rollout(text, "19") for text in texts[:3]], right=1.0, wrong=0.0, missing=-1.0) == [1.0, 0.0, -1.0]
    assert boxed([rollout("\\boxed{19}")]) == [None]
    half = "\\frac{1}{2^{x}}"
    nested = [
        rollout(f"It is \\boxed{{{said}}}", half) for said in (half, "\\frac{1}{3^{x}}", f"{half}}} or \\boxed{{4")
    ]
    assert boxed(nested) == [2.0, -1.5, -1.5]
