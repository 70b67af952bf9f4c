"""A tournament judged by a second model: both orders, what is no verdict, and the number of judgements."""

import re
from pathlib import Path

import pytest
import yaml

from rlpost import catalogue, ledger
from rlpost.errors import ConfigError, RewardError
from rlpost.models.scorer.base import Tally
from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.arena import MATCH, arena
from tests.reward.rows import rollout


class Judge:
    """Grades the answers shown as A and B as `grade(a, b)` says."""

    def __init__(self, grade):
        self.grade, self.asked, self.calls, self.tally = grade, [], 0, Tally()

    def judge(self, prompts, *, max_tokens, temperature, seed):
        self.calls += 1
        replies = []
        for prompt in prompts:
            a, b = (re.search(rf"<answer {x} \w+>\n(.*)\n</answer", prompt)[1] for x in "AB")
            self.asked.append((a, b))
            fence = re.findall(r"VERDICT (\w+):", prompt)[-1]
            replies.append("I think ...\nVERDICT {}: A {} B {}".format(fence, *self.grade(a, b)))
        return replies


@pytest.fixture(autouse=True)
def fresh():
    ledger.reset()
    yield
    ledger.reset()


def strength(a, b):
    return float(a), float(b)


def test_places_follow_the_grades_and_groups_are_judged_together():
    given = [rollout(text, group=g) for text, g in [("3", "a"), ("9", "b"), ("1", "a"), ("7", "a"), ("2", "b")]]
    judge = Judge(strength)
    # seeds 7, 3, 1 of group a: 7 v 3, then 1, which advanced unplayed, v 7; so 1 ends before 3, as published
    assert arena(given, {"judge": judge}) == pytest.approx([0, 1, 0.5, 1, 0])
    # seeding: 2 + 1 pairs; then 1 + 1; then 1: two judgements each, three calls
    assert judge.calls == 3 and len(judge.asked) == 12
    assert judge.asked[:4] == [("3", "1"), ("1", "3"), ("3", "7"), ("7", "3")]


@pytest.mark.parametrize(
    ("topology", "pairs"),
    [("anchor", 3), ("round_robin", 6), ("single_elimination", 6), ("double_elimination", 6)],
)
def test_topologies_and_their_number_of_judgements(topology, pairs):
    judge = Judge(strength)
    found = arena([rollout(f"{i}") for i in (4, 8, 2, 6)], {"judge": judge}, topology=topology)
    assert found == pytest.approx([1 / 3, 1, 0, 2 / 3]) and len(judge.asked) == 2 * pairs


def test_a_liking_for_the_first_answer_cancels():
    biased = Judge(lambda a, b: (min(10.0, float(a) + 3), float(b)))
    assert arena([rollout("4"), rollout("5"), rollout("6")], {"judge": biased}, topology="anchor") == [0, 0.5, 1]


def test_unreadable_is_neutral_and_counted():
    judge = Judge(lambda a, b: ("good", "bad"))
    assert arena([rollout("4"), rollout("5")], {"judge": judge}, topology="anchor", max_unparsable=1.0) == [0, 0]
    assert ledger.current().count("fail") == 2 and len(judge.asked) == 4
    with pytest.raises(RewardError, match="reward 'arena'"):
        arena([rollout("4"), rollout("5")], {"judge": judge})
    # 5 + 5 against a readable order 7 : 1 is 12 : 6
    half = Judge(lambda a, b: (7, 1) if a == "4" else (11, 2))
    assert arena([rollout("4"), rollout("5")], {"judge": half}, topology="anchor", max_unparsable=1.0) == [1, 0]


def test_the_stand_in_fills_both_numbers():
    found = arena([rollout(f"{i}") for i in range(8)], {"judge": StandIn()})
    assert sorted(found) == pytest.approx([i / 7 for i in range(8)])
    assert found == arena([rollout(f"{i}") for i in range(8)], {"judge": StandIn()})


@pytest.mark.parametrize("knobs", [{"topology": "league"}, {"maximum": 0.0}, {"template": "{answer_a}"}])
def test_settings_that_cannot_work(knobs):
    with pytest.raises(ConfigError, match="reward arena: topology="):
        arena([rollout("1"), rollout("2")], {"judge": StandIn()}, **knobs)


def test_the_option_has_the_template_of_the_function():
    node = yaml.safe_load(Path(catalogue.options("reward", [catalogue.recipes_dir()])["arena"]).read_text())
    assert node["template"] == MATCH
