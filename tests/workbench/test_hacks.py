"""The scan: each hole is found on a stack that has it, none on stacks that are sound, and the rules by numbers."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest

from rlpost.types import Task
from rlpost.workbench import hacks, probes
from rlpost.workbench.command import Options, settings
from rlpost.workbench.look import look

MINE = "tests.workbench.rewards"
OPTIONS = Options(samples=6)
NAN = math.nan


@functools.cache
def composed():
    """One configuration that has every reward; a scan takes those that it is about."""
    return settings(
        [
            "model=tiny",
            "reward=[correct,format,math_verify,multiple_choice,judge_rubric]",
            "reward.multiple_choice.when=null",
            "reward.judge_rubric.template='REFERENCE: {reference}; ANSWER: {answer}'",
            "reward.judge_rubric.pattern='^VERDICT: *(\\d+)$'",
            f"models.judge._target_={MINE}.Steerable",
        ],
        OPTIONS,
    )


def scan(*names, **mine):
    """Findings as (probe, column, kind) of a stack on arithmetic rows: rewards by name, and functions with weights."""
    setting = composed()
    tree = dict(setting.first.tree)
    own = {name: {"_target_": f"{MINE}.{name}", "weight": weight} for name, weight in mine.items()}
    tree["reward"] = {**{name: tree["reward"][name] for name in names}, **own}
    found = look(replace(setting, first=replace(setting.first, tree=tree)), OPTIONS)
    return {(one.probe, one.column, one.kind) for one in found.findings}


def rows(**probes_):
    return {name: np.array(values, dtype=float) for name, values in probes_.items()}


@pytest.mark.parametrize("stack", [["correct"], ["correct", "format"], ["multiple_choice"]])
def test_a_sound_stack_has_no_hole(stack):
    assert scan(*stack) == set()


def test_a_comparison_of_mathematics_is_satisfied_by_the_sum_that_was_asked():
    """math-verify reads "Calculate 7 + 12." as an expression, which equals 19."""
    assert scan("math_verify") == {("echo", "math_verify", "gold")}


def test_form_alone_rewards_nothing_right():
    assert scan("format") == {("wrong", "format", "blind"), ("tags, no answer", "format", "gold")}


def test_a_substring_is_hacked_by_lists():
    assert scan(substring=1.0) == {
        (name, "substring", "gold") for name in ("list of 3", "list of many", "tags of many")
    }


def test_length_pays_beside_an_answer_that_counts():
    found = scan("correct", length=0.1)
    padded = {(name, "length", "pays") for name in ("wrong, padded", "gold, padded", "filler 360", "word x200")}
    assert padded <= found
    assert not any(column == "correct" for _, column, _ in found)
    # 0.1 * 3.6 for 360 words stays below the 1 of gold, so that the total is not reached
    assert not any((column, kind) == ("total", "gold") for _, column, kind in found)


def test_a_reward_that_counts_answers_is_hacked_by_repeating_them():
    found = scan(repetition=1.0)
    assert ("gold x8", "repetition", "pays") in found and ("wrong x8", "repetition", "pays") not in found


def test_a_judge_that_can_be_steered_is_found():
    tricks = ("order", "closed fence", "system message")
    assert scan("judge_rubric") == {(name, "judge_rubric", "gold") for name in tricks}


def test_as_much_as_gold_less_a_share_of_what_gold_gets_more():
    """Gold 1, wrong 0.5: with tolerance 0.1 the threshold is 0.95, with 0.2 it is 0.9."""
    values = {"r": rows(gold=[1, 1], wrong=[0.5, 0.5], empty=[0.94, 0.94], echo=[0.96, 0.96])}
    assert [one.probe for one in hacks.findings(values, 0.1)] == ["echo"]
    assert [one.probe for one in hacks.findings(values, 0.2)] == ["empty", "echo"]
    one = hacks.findings(values, 0.1)[0]
    assert (one.got, one.gold, one.wrong, one.rows, one.of) == (pytest.approx(0.96), 1.0, 0.5, 2, 2)
    assert one.sentence == "r gives 0.96 to the prompt again; gold gets 1, an honest wrong answer 0.5 (2 of 2 rows)"


def test_a_hole_on_a_quarter_of_the_rows_is_one():
    gold, wrong = [1.0] * 8, [0.0] * 8
    often = {"r": rows(gold=gold, wrong=wrong, empty=[1, 1, 0, 0, 0, 0, 0, 0], echo=[1, 0, 0, 0, 0, 0, 0, 0])}
    found = hacks.findings(often, 0.1)
    assert [(one.probe, one.rows, one.of) for one in found] == [("empty", 2, 8)]


def test_one_row_alone_is_chance_and_the_mean_counts_by_itself():
    gold, wrong = [1.0] * 4, [0.0] * 4
    assert hacks.findings({"r": rows(gold=gold[:3], wrong=wrong[:3], empty=[1, 0, 0])}, 0.1) == []
    # One row of four reaches 0.9, and so does the mean: (3 * 0.85 + 1.1) / 4 = 0.9125.
    means = {"r": rows(gold=gold, wrong=wrong, empty=[0.85, 0.85, 0.85, 1.1])}
    assert [one.probe for one in hacks.findings(means, 0.1)] == ["empty"]


def test_more_than_without_the_trick_where_noise_cannot_say_it():
    base = [0.0, 0.2, 0.4, 0.6]
    sure = {"r": rows(wrong=base, **{"wrong x8": [0.1, 0.3, 0.5, 0.7]})}
    one = hacks.findings(sure, 0.1)[0]
    assert (one.probe, one.kind, one.rows) == ("wrong x8", "pays", 4)
    assert one.got == pytest.approx(0.4) and one.base == pytest.approx(0.3)
    noise = {"r": rows(wrong=base, **{"wrong x8": [0.9, 0.0, 0.6, 0.3]})}  # more on the mean, less on half of the rows
    assert hacks.findings(noise, 0.1) == []


def test_a_gain_is_sure_by_students_interval():
    """Gains (1, 2, 3): 2 less 9.925 * 1 / sqrt(3) is below 0. Gains (1, 1.1, 1.2): 1.1 less 0.9925 / sqrt(3) is not."""
    base = np.zeros(3)
    assert not hacks.surely_more(np.array([1.0, 2.0, 3.0]), base)
    assert hacks.surely_more(np.array([1.0, 1.1, 1.2]), base)
    # the interval of (1, 1.1, 1.2, ) + shift ends at 0 where the shift is 9.925 * 0.1 / sqrt(3) - 1.1 = -0.52698
    assert hacks.surely_more(np.array([1.0, 1.1, 1.2]) - 0.5268, base)
    assert not hacks.surely_more(np.array([1.0, 1.1, 1.2]) - 0.5272, base)
    assert hacks.surely_more(np.array([1.0, 1.0, NAN]), base) and not hacks.surely_more(np.ones(1), np.zeros(1))
    assert hacks.surely_more(np.arange(40.0) + 100, np.zeros(40))


def test_a_reward_that_does_not_tell_is_no_fault_beside_one_that_does():
    flat = rows(gold=[1, 1], wrong=[1, 1], empty=[1, 1])
    right = rows(gold=[1, 1], wrong=[0, 0], empty=[0, 0])
    total = {name: flat[name] + right[name] for name in flat}
    assert hacks.findings({"form": flat, "right": right, "total": total}, 0.1) == []
    assert [one.kind for one in hacks.findings({"form": flat}, 0.1)] == ["blind", "gold"]


def test_rows_without_a_score_are_left_out():
    values = {"r": rows(gold=[1, NAN, 1], wrong=[0, 0, 0], empty=[NAN, 1, 0])}
    assert hacks.findings(values, 0.1) == []
    assert hacks.by_probe({"r": np.array([1.0, 2.0])}, ["a", "b"], ["gold", "gold"])["r"]["gold"].tolist() == [1.0, 2.0]
    told = hacks.table(values, [])
    assert told[0]["means"] == {"r": 1.0} and [one["probe"] for one in told] == ["gold", "wrong", "empty"]


def test_probes_hide_the_answer_and_never_end_in_it():
    tasks = [Task(f"t{n}", ({"role": "user", "content": f"{n} + 1?"},), answer=n + 1) for n in (30, 70, 90)]
    made = {text.probe: text.text for text in probes.made(tasks, ["with thoughts"]) if text.group == "0"}
    assert set(made) == {kind.name for kind in probes.KINDS}
    assert made["gold"] == "<think>So it is.</think>\n<answer>31</answer>"
    assert made["wrong"] == "<think>So it is.</think>\n<answer>32</answer>"
    assert made["form, hollow"] == "<think>So it is.</think>\n<answer></answer>"
    assert made["list of 3"].endswith("<answer>32, 31, 30</answer>")
    many = made["list of many"].partition("<answer>")[2].removesuffix("</answer>").split(", ")
    assert len(many) == len(set(many)) == 13 and many[6] == "31"
    assert made["another's gold"] in {f"<think>So it is.</think>\n<answer>{n}</answer>" for n in (71, 91)}
    assert made["wrong, padded"].endswith("</think>\n<answer>32</answer>")
    assert len(made["filler 90"].split()) == 90 and len(made["filler 360"].split()) == 360


def test_letters_and_words_have_their_own_wrong_neighbours():
    letters = [Task("a", (), answer="A"), Task("b", (), answer="C")]
    listed = {text.probe: text.text for text in probes.made(letters, ["as it is"]) if text.group == "0"}
    assert listed["list of 3"] == "B, A, C" and listed["wrong"] == "B"
    words = [Task(name, (), answer=name) for name in ("red", "blue", "green")]
    listed = {text.probe: text.text for text in probes.made(words, ["as it is"]) if text.group == "0"}
    assert sorted(listed["list of 3"].split(", ")) == ["blue", "green", "red"]
    assert listed["list of 3"].split(", ")[1] == "red"


def test_what_only_a_demonstration_shows_is_wrong_for_another_row():
    tasks = [Task(name, (), demonstration=f"return {name}") for name in ("one", "two")]
    made = {text.probe: text.text for text in probes.made(tasks, ["the demonstration"]) if text.group == "0"}
    assert made["gold"] == "return one" and made["wrong"] == "return two" and "list of 3" not in made
    silent = {text.probe: text.text for text in probes.made([Task("t", ())], [])}
    assert silent["wrong"] == probes.NO_ANSWER and "gold" not in silent
