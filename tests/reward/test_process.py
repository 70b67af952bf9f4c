"""Every span is judged with what stands before it; units of several spans are judged once, at their end."""

import re

import pytest

from rlpost.errors import ConfigError
from rlpost.models.scorer.stand_in import StandIn
from rlpost.reward.process import step_drops, step_scores, step_signs, units
from rlpost.stack import Reward, RewardStack
from rlpost.types import Prompt, Rollout, Task

TASK = Task("t", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 3 + {step}?"}])
SHORT = "{question}|{before}|{step}|{good}{bad}"


def row(*parts: str) -> Rollout:
    tokens = list(range(len(parts)))
    found = Rollout(TASK, "g", Prompt([]), tokens, [True] * len(tokens), [0.0] * len(tokens), "".join(parts), "eos")
    found.span, found.info["spans"] = tokens, list(parts)
    return found


def asked(*prompts: str) -> list[float]:
    """What the stand-in says of prompts written out: p(y) - p(n)."""
    return [yes - no for yes, no in StandIn().choice_probs(list(prompts), [["y", "n"]] * len(prompts))]


KNOBS = {"good": "y", "bad": "n", "template": SHORT}


def test_a_span_is_judged_behind_those_before_it():
    found = step_scores([row("a.", " {good}.", " c"), row("d")], {"process": StandIn()}, **KNOBS)
    one, two, three, other = asked(
        "What is 3 + {step}?|(nothing yet)|a.|yn",
        "What is 3 + {step}?|a.| {good}.|yn",
        "What is 3 + {step}?|a. {good}.| c|yn",
        "What is 3 + {step}?|(nothing yet)|d|yn",
    )
    assert found == [[one, two, three], [other]] and all(-1 <= x <= 1 for x in (one, two, three, other))
    assert len({one, two, three, other}) == 4


def test_units_end_where_they_are_told_to_and_at_the_end():
    parts = ["When it rains,", " it pours. ", "So", ", they say,", " be it"]
    assert units(parts, None) == [(i, i) for i in range(5)]
    assert units(parts, re.compile(r"(?:\.)$")) == [(0, 1), (2, 4)] and units([], None) == []
    found = step_scores([row(*parts)], {"judge": StandIn()}, role="judge", until=r"\.", **KNOBS)
    first, second = asked(
        "What is 3 + {step}?|(nothing yet)|When it rains, it pours. |yn",
        "What is 3 + {step}?|When it rains, it pours. |So, they say, be it|yn",
    )
    assert found == [[None, first, None, None, second]]


def test_signs_are_those_of_the_scores():
    rows = [row(*(f"s{i}" for i in range(12)))]
    scores, signs = (f(rows, {"process": StandIn()}, **KNOBS)[0] for f in (step_scores, step_signs))
    assert signs == [1.0 if s > 0 else -1.0 for s in scores] and {1.0, -1.0} == set(signs)
    assert step_signs([row("a.", "b"), row()], {"process": StandIn()}, until="b", **KNOBS)[0][0] is None


def test_it_serves_as_a_reward_of_the_stack_and_of_plain_completions():
    plain = row("one", "two")
    plain.span, plain.info = [-1, -1], {}
    stack = RewardStack({"steps": Reward(step_scores)}, {"process": StandIn()})
    rows = [row("a", "b", "c"), plain]
    stack.score(rows)
    assert [len(r.scores["steps"]) for r in rows] == [3, 1]


def test_wrong_knobs_are_refused():
    with pytest.raises(ConfigError, match=r"until='\['"):
        step_scores([], {}, until="[")
    with pytest.raises(ConfigError, match=r"needs \{step\}"):
        step_scores([], {}, template="{question}")
    assert step_scores([], {}) == []


def test_drops_telescope_and_skip_what_is_not_judged():
    """Sentences end with a dot: the first span has no score, then come -p and p - p', with p = (1 - s) / 2."""
    rows = [row("So", " it is.", " And more."), row("one.")]
    knobs = {**KNOBS, "until": r"\."}
    sure = step_scores(rows, {"process": StandIn()}, **knobs)
    found = step_drops(rows, {"process": StandIn()}, **knobs)
    first, second = (1 - sure[0][1]) / 2, (1 - sure[0][2]) / 2
    assert found[0] == [None, pytest.approx(-first), pytest.approx(first - second)]
    assert sum(found[0][1:]) == pytest.approx(-second) and found[1] == [pytest.approx((sure[1][0] - 1) / 2)]
