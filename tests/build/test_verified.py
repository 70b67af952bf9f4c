"""The rollout-aware verifier: what it never pairs, what each kind of pair is, and which prompts stay."""

import random
import re

from rlpost.build.verified import unsolved, verified_pairs
from rlpost.reward.repetition import repeated_share
from tests.build.rows import said


class Judge:
    """Derives what stands last in the thoughts, as `so <answer>`; otherwise its reply has no verdict."""

    def __init__(self):
        self.tally = type("Tally", (), {"asked": 0, "unreadable": 0})()
        self.seen = []

    def judge(self, prompts, **_):
        self.seen += prompts
        replies = []
        for prompt in prompts:
            thoughts = re.search(r"<thoughts (\w+)>(.*?)</thoughts", prompt, re.DOTALL)
            so = re.search(r"so (\w+)\s*$", thoughts[2].strip())
            replies.append(f"ANSWER {thoughts[1]}: {so[1]}." if so else "I cannot say")
        return replies


def thought(q, thoughts, answer, right, length=20):
    return said(q, f"<think>{thoughts}</think><answer>{answer}</answer>", correct=float(right), length=length)


def kinds(rows):
    return {row.columns["kind"]: (row.columns["chosen"], row.columns["rejected"]) for row in rows}


GOOD = thought("q", "wait, so 4", "4", True, length=40)
LONGER = thought("q", "count it all up, so 4", "4", True, length=60)
LUCKY = thought("q", "it must be so 5", "4", True, length=80)
UNREADABLE = thought("q", "hm", "4", True, length=90)
LOOP = thought("q", "a b c d " * 6 + "so 4", "4", True, length=99)
SHORT = thought("q", "so 6", "6", False, length=10)
WRONG = thought("q", "let me think, so 7", "7", False, length=50)


def test_three_kinds_of_pairs():
    judge = Judge()
    found = kinds(verified_pairs([SHORT, GOOD, WRONG, LONGER, LUCKY, UNREADABLE, LOOP], {"judge": judge}))
    assert found == {
        "consistency": (LONGER.text, LUCKY.text),
        "penalty": (LONGER.text, LOOP.text),
        "reflection": (GOOD.text, SHORT.text),
    }
    # Seven completions, and a second try for the reply that could not be read.
    assert len(judge.seen) == 8 and not any("<answer>" in prompt for prompt in judge.seen)
    assert "so 4" in judge.seen[1] and judge.tally.unreadable == 1


def test_without_an_inconsistent_or_repetitive_answer_wrong_ones_are_rejected():
    found = kinds(verified_pairs([WRONG, LONGER, SHORT], {"judge": Judge()}, stitch=""))
    # SHORT has 10 tokens, fewer than half of 60; WRONG's 50 would not do
    assert found == {"consistency": (LONGER.text, WRONG.text), "penalty": (LONGER.text, SHORT.text)}
    assert kinds(verified_pairs([WRONG, LONGER], {"judge": Judge()}, stitch="")) == {
        "consistency": (LONGER.text, WRONG.text)
    }


def test_a_wrong_attempt_is_corrected_where_no_valid_one_reflects():
    bare = said("q", "just 9", correct=0.0, length=30)
    found = kinds(verified_pairs([bare, WRONG, LONGER, SHORT], {"judge": Judge()}, stitch="No, again:"))
    text = "<think>let me think, so 7 No, again: count it all up, so 4</think><answer>4</answer>"
    assert found["reflection"] == (text, WRONG.text)
    assert kinds(verified_pairs([WRONG, LONGER, GOOD], {"judge": Judge()}))["reflection"] == (GOOD.text, WRONG.text)
    assert "reflection" not in kinds(verified_pairs([bare, LONGER], {"judge": Judge()}))
    plain = said("q", "4", correct=1.0, length=9)
    assert "reflection" not in kinds(verified_pairs([WRONG, plain], {"judge": Judge()}))


def test_what_is_stitched_does_not_repeat_and_what_nothing_judges_is_in_no_pair():
    loop = thought("q", "a b c d " * 6 + "so 7", "7", False, length=30)
    found = kinds(verified_pairs([loop, LONGER], {"judge": Judge()}, ngram=4, repeated=0.3))
    assert "reflection" not in found and found["consistency"] == (LONGER.text, loop.text)
    assert kinds(verified_pairs([loop, LONGER, WRONG], {"judge": Judge()}))["reflection"][1] == WRONG.text
    same = thought("q", "count it all up, so 5", "5", False, length=30)
    assert "reflection" not in kinds(verified_pairs([same, LONGER], {"judge": Judge()}, ngram=3, repeated=0.1))
    unjudged = said("q", "<think>so 8</think><answer>8</answer>", correct=None, length=20)
    assert verified_pairs([unjudged, LONGER], {"judge": Judge()}) == []
    assert [one.id for one in unsolved([unjudged], random.Random(0))] == ["q"]
    solved = [LONGER, unjudged]
    assert sum(bool(unsolved(solved, random.Random(i))) for i in range(200)) < 80, "solved but for the unjudged one"


def test_no_valid_answer_no_pair():
    assert verified_pairs([LUCKY, UNREADABLE, LOOP, WRONG, SHORT], {"judge": Judge()}) == []
    assert verified_pairs([LONGER, GOOD], {"judge": Judge()}) == []
    same = [said("q", "4", correct=1.0, length=9), said("q", "4 ", correct=0.0, length=1)]
    assert verified_pairs(same, {}) == []


def test_what_has_no_thoughts_is_not_asked_about():
    rows = [said("q", "4", correct=1.0, length=9), said("q", "5", correct=0.0, length=8)]
    assert kinds(verified_pairs(rows, {})) == {"consistency": ("4", "5")}
    assert kinds(verified_pairs([LUCKY, WRONG], {}, role=None, stitch="")) == {"consistency": (LUCKY.text, WRONG.text)}


def test_repetition():
    """a b a b a b: the pairs ab, ba, ab, ba, ab, of which three occurred before."""
    assert repeated_share("a b a b a b", 2) == 3 / 5 and repeated_share("a b", 3) == 0


def test_a_fifth_of_the_solved_prompts_and_all_others_stay():
    rows = [said(f"s{i}", "4", correct=1.0) for i in range(1000)]
    rows += [
        said("half", "4", correct=1.0),
        said("half", "5", correct=0.0, group="later"),
        said("none", "5", correct=0.0),
    ]
    kept = [task.id for task in unsolved(rows, random.Random(0))]
    assert kept[-2:] == ["half", "none"]
    # 200 expected of 1000 draws, standard deviation 12.6
    assert abs(len(kept) - 2 - 200) < 38
    assert [task.id for task in unsolved(rows, random.Random(0), solved=0.0)] == ["half", "none"]
