"""Checked instructions: every kind of constraint, the table of rewards, the gain over an answer without thoughts."""

import pytest

from rlpost.dataset.constrained import constrained
from rlpost.reward.constraints import CHECKS, constraint_gain, constraints, satisfied, thought_form
from tests.reward.rows import rollout

THREE = [
    {"kind": "words_at_most", "value": 4},
    {"kind": "includes", "value": "blue"},
    {"kind": "lower_case", "value": None},
]


def said(answer, **columns):
    return rollout(f"<think>so</think> <answer>{answer}</answer>", **{"constraints": THREE, **columns})


@pytest.mark.parametrize(
    ("kind", "value", "meets", "misses"),
    [
        ("words_at_least", 3, "one two-fold three's", "one two"),
        ("words_at_most", 2, "well, there", "one two three"),
        ("includes", "Blue", "it is blue.", "bluer"),
        ("excludes", "blue", "bluer", "Blue it is"),
        ("starts_with", "Well", " Well, no", "well, no"),
        ("ends_with", "!", "no! ", "no!."),
        ("lower_case", None, "a 2b", "a B"),
        ("upper_case", None, "A 2B", "A b"),
        ("lines", 2, "a\n\nb", "a b"),
        ("paragraphs", 2, "a\nb\n \nc", "a\nb\nc"),
        ("paragraph_starts_with", [2, "So"], "a\n\nSo, b", "So\n\nb So"),
        ("sentences_at_least", 2, 'He said "no." Then 3.5 went.', "It took 3.5 hours."),
        ("sentences_at_most", 1, "It took 3.5 hours!", "It did. So?"),
        ("word_at_least", ["blue", 2], "Blue, blue", "blue bluer"),
        ("word_at_most", ["blue", 1], "blue bluer", "Blue blue"),
        ("letter_at_least", ["e", 3], "Eke eh", "eke"),
        ("capital_words_at_least", 2, "A VERY big", "A Very big"),
        ("capital_words_at_most", 1, "A Very big", "A VERY big"),
        ("bullets", 2, "So:\n- a\n 2. b\n-c", "* a"),
        ("placeholders_at_least", 1, "Dear [name]", "Dear []"),
        ("highlights_at_least", 2, "*a b* and **c**", "*a* * b *"),
        ("title", None, "<<On blue>>\nIt", "<<>> It <a>"),
        ("quoted", None, ' "It is" ', '"It" is'),
        ("no_comma", None, "It is", "Well, no"),
        ("postscript", "P.S.", "It.\nP.S. more", "It. P.S.\n"),
        ("one_of", ["yes", "no"], " no\n", "no!"),
        ("json", None, '```json\n{"a": [1]}\n```', '{"a": 1,}'),
    ],
)
def test_each_kind(kind, value, meets, misses):
    one = [{"kind": kind, "value": value}]
    assert [satisfied(text, one) for text in (meets, misses, "")] == [1, 0, 0]


def test_all_kinds_are_tested_and_unknown_ones_refused():
    assert len(CHECKS) == 27
    with pytest.raises(ValueError, match="unknown constraint 'rhymes'; there are words_at_least"):
        satisfied("a", [{"kind": "rhymes"}])


def test_the_table_of_three_constraints():
    rows = [said("the sea is blue"), said("the Sea is blue"), said("The sea"), said("The very Grey old sea")]
    assert constraints(rows) == pytest.approx([2.0, 2 / 3, 1 / 3, -2.0], rel=1e-9)
    assert constraints(rows, every=5.0, none=-1.0) == pytest.approx([5.0, 2 / 3, 1 / 3, -1.0], rel=1e-9)


def test_without_the_form_there_is_no_answer():
    rows = [rollout(text, constraints=THREE) for text in ("the sea is blue", "", "<answer>the sea is blue</answer>")]
    assert constraints(rows) == [-2.0] * 3
    assert thought_form([*rows, said("x")]) == [-1.0, -1.0, -1.0, 1.0]
    assert constraints([rollout("x")]) == [None]


def test_the_gain_over_an_answer_without_thoughts():
    rows = [said("the sea is blue", baseline_satisfied=2), said("The sea", baseline_satisfied=2), said("the sea")]
    assert constraint_gain(rows) == [1.0, -1.0, None]
    assert constraint_gain([rollout("the sea", constraints=THREE, baseline_satisfied=0)]) == [None]
    assert constraint_gain([said("the sea", plain=0)], baseline="plain") == [2.0]


def test_demonstrations_score_full_marks_and_prompts_do_not():
    tasks = [*constrained("train", train_size=40), *constrained("test", test_size=10)]
    assert len({task.id for task in tasks}) == 50 and {len(t.columns["constraints"]) for t in tasks} == {2, 3}
    for task in tasks:
        wanted = task.columns["constraints"]
        gold, echo = (
            rollout(task.demonstration, constraints=wanted),
            rollout(task.prompt[0]["content"], constraints=wanted),
        )
        assert constraints([gold, echo]) == [2.0, -2.0] and thought_form([gold, echo]) == [1.0, -1.0]
    assert constrained("validation") == []
    assert constrained("train") != constrained("train", seed=1)
