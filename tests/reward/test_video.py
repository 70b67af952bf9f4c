"""The five accuracy types and the format: gold answers score full marks, near misses, echoes and tricks do not."""

import pytest

from rlpost.reward.video import free_form, multiple_choice, number, numerical, ocr, regression, think_answer_format
from rlpost.types import Prompt, Rollout, Task

TYPES = {
    multiple_choice: "B",
    numerical: "3.50",
    ocr: "stop here now",
    free_form: "the red circle moves left",
    regression: "12.5",
}


def row(text: str, gold: object) -> Rollout:
    task = Task("t", [{"role": "user", "content": "which way does the circle move ? A left B right"}], answer=gold)
    return Rollout(task, "g", Prompt([1]), [2], [True], [0.0], text, "eos")


def said(answer: str) -> str:
    return f"<think> it moves </think> <answer> {answer} </answer>"


@pytest.mark.parametrize(("reward", "gold"), TYPES.items(), ids=lambda x: getattr(x, "__name__", None))
def test_gold_scores_full_marks_and_junk_none(reward, gold):
    text = str(gold)
    assert reward([row(said(text), gold)]) == [pytest.approx(1.0)]
    assert reward([row(said(text), f"<answer>{gold}</answer>")]) == [pytest.approx(1.0)], "tags around the gold answer"
    for hack in ("", text, "<answer></answer>", f"<answer>{text}", f"<answer>zzz</answer> <answer>{text}</answer>"):
        assert reward([row(hack, gold)]) == [0.0], hack
    assert reward([row("which way does the circle move ? A left B right", gold)]) == [0.0], "an echo of the prompt"
    assert reward([row(said(text), None)]) == [None]


@pytest.mark.parametrize("answer", ["b", "B.", "B right", "A or B", "(B)"])
def test_multiple_choice_is_the_letter_alone(answer):
    assert multiple_choice([row(said(answer), "B")]) == [0.0]


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("3", "3", 1.0),
        ("3.0", "3", 0.0),  # another form, refused as published
        ("3.499", "3.50", 1.0),  # both round to 3.50
        ("3.49", "3.50", 0.0),
        ("1,204", "1,204", 1.0),
        ("1,204", "1204", 0.0),
        ("three", "3", 0.0),
        ("nan", "3", 0.0),
        ("inf", "inf", 0.0),
    ],
)
def test_numerical(answer, gold, score):
    assert numerical([row(said(answer), gold)]) == [score]


def test_numerical_may_ignore_the_form():
    assert numerical([row(said("3.0"), "3"), row(said("1,204"), "1204")], same_form=False) == [1.0, 1.0]
    assert numerical([row(said("3.4"), "3.0")], decimals=0) == [1.0]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("stop here now", 1.0),
        ("stop now", 2 / 3),  # one deletion of three words
        ("stop there now", 2 / 3),  # one substitution
        ("please stop right here now", 1 / 3),  # two insertions
        ("a b c d e f", 0.0),  # more errors than words
    ],
)
def test_ocr_is_one_minus_the_word_error_rate(answer, score):
    assert ocr([row(said(answer), "stop here now")]) == [pytest.approx(score)]


def test_ocr_of_a_blank_counts_every_word():
    assert ocr([row(said(""), ""), row(said("stop"), "")]) == [1.0, 0.0]


def test_free_form_is_the_mean_of_three_rouge_measures():
    """4 and 5 words share the, red, moves: F1 = 6/9. 3 and 4 pairs share the-red: F1 = 2/7. The longest common
    subsequence is the-red-moves: F1 = 6/9."""
    score = free_form([row(said("the red square moves"), "the red circle moves left")])
    assert score == [pytest.approx((6 / 9 + 2 / 7 + 6 / 9) / 3)]
    stemmed = [free_form([row(said("it move"), "it moves")], stemmer=on)[0] for on in (True, False)]
    assert stemmed[0] == pytest.approx(1.0) and stemmed[1] < 0.5


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("10", "12.5", 0.8),  # off by a fifth
        ("15", "12.5", 0.8),
        ("26", "12.5", 0.0),
        ("-12.5", "12.5", 0.0),
        ("-10", "-12.5", 0.8),
        ("0", "0", 1.0),
        ("0.001", "0", 0.0),
        ("far", "12.5", 0.0),
    ],
)
def test_regression_is_one_minus_the_relative_error(answer, gold, score):
    assert regression([row(said(answer), gold)]) == [pytest.approx(score, abs=1e-6)]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<think> so </think> <answer> A </answer>", 1.0),
        ("<think>so\nthen</think>\n\n<answer>A</answer>", 1.0),
        ("<think></think><answer></answer>", 1.0),
        ("first <think> so </think> <answer> A </answer>", 0.0),
        ("<think> so </think> <answer> A </answer> done", 0.0),
        ("<think> so </think> then <answer> A </answer>", 0.0),
        ("<answer> A </answer> <think> so </think>", 0.0),
        ("<think> so <answer> A </answer>", 0.0),
        ("", 0.0),
    ],
)
def test_format(text, score):
    assert think_answer_format([row(text, "A")]) == [score]


def test_numbers():
    assert [number(t) for t in ("1,200.5", "-3", "1e2", "", "three", "inf", "nan")] == [
        1200.5,
        -3,
        100,
        None,
        None,
        None,
        None,
    ]
