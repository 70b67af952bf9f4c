"""The stand-in answers from hashes alone; roles are built when asked; verdicts are read, asked again and counted."""

import logging

import pytest
import torch

from rlpost import ledger
from rlpost.errors import ConfigError, RewardError
from rlpost.models.scorer.roles import Models
from rlpost.models.scorer.stand_in import StandIn
from rlpost.models.scorer.verdict import verdicts

FORM = "Grade.\nEnd so:\nV: <number from 2 to 5>!"


@pytest.fixture(autouse=True)
def fresh_ledger():
    ledger.reset()
    yield
    ledger.reset()


def test_it_is_reproducible_and_depends_on_the_content(caplog):
    with caplog.at_level(logging.WARNING):
        a, b, c = StandIn(), StandIn(), StandIn(seed=1)
    assert "stand-in" in caplog.text
    for ask in (
        lambda s: s.logp(["p", "p", "q"], ["one two", "one", [1, 2]]),
        lambda s: s.hidden(["p", "q"], ["x", "x"]).tolist(),
        lambda s: s.embed(["x", "y"]).tolist(),
        lambda s: s.scalar(["p", "q"], ["x", "x"]),
        lambda s: s.choice_probs(["p", "q"], [["a", "b"], ["a", "b"]]),
        lambda s: s.judge(["p", "q"]),
    ):
        first = ask(a)
        assert first == ask(b) != ask(c)
        assert len({str(one) for one in first}) == len(first)


def test_its_answers_have_the_shapes_of_a_models():
    scorer = StandIn(width=7)
    logp = scorer.logp(["p", "p"], ["one two three", [5, 6]])
    assert [len(row) for row in logp] == [4, 2] and all(-4 < x <= 0 for row in logp for x in row)
    assert scorer.logp(["p"], ["one two"])[0][:2] == logp[0][:2], "a token depends on what precedes it alone"
    assert scorer.hidden(["p"], ["x"]).shape == (1, 7) and scorer.embed([]).shape == (0, 7)
    assert torch.allclose(scorer.embed(["a", "b"]).norm(dim=1), torch.ones(2))
    assert sum(scorer.choice_probs(["p"], [["a", "b", "c"]])[0]) == pytest.approx(1)
    assert scorer.stats()["logp/items"] == 2 + 1 + 3


def test_its_verdicts_take_the_form_that_the_prompt_asks_for_last():
    replies = StandIn().judge([f"<number from 9 to 9>\n{i} {FORM}" for i in range(60)])
    assert {reply.splitlines()[-1] for reply in replies} == {f"V: {n}!" for n in (2, 3, 4, 5)}
    [plain] = StandIn().judge(["no form"])
    assert plain.startswith("A reply of the stand-in")
    odd = StandIn(nonsense=0.25).judge([f"{i} {FORM}" for i in range(400)])
    assert 60 < odd.count("I would rather not say.") < 140  # 100 expected, 40 is over four standard deviations


def test_roles_are_built_when_asked_for():
    models = Models(
        {
            "judge": {"_target_": "rlpost.models.scorer.stand_in.StandIn", "seed": 4},
            "bad": {"_target_": "rlpost.nowhere.y"},
        }
    )
    assert list(models) == ["judge", "bad"] and len(models) == 2 and models.stats() == {}
    assert models["judge"] is models["judge"] and models["judge"].identity == "stand-in:4"
    models["judge"].judge(["a"])
    assert models.stats()["judge/judge/items"] == 1
    with pytest.raises(ConfigError, match=r"asked for as models\.teacher, but there are judge, bad"):
        models["teacher"]
    with pytest.raises(ConfigError, match=r"models\.judge, but none is configured; set models\.judge"):
        Models()["judge"]
    with pytest.raises(ConfigError, match=r"no module 'rlpost\.nowhere'"):
        models["bad"]


class Scripted(StandIn):
    """A judge that says what a list holds for each prompt, one reply per try."""

    def __init__(self, replies):
        super().__init__()
        self.replies, self.calls = replies, []

    def judge(self, prompts, *, max_tokens=512, temperature=0.0, seed=0):
        self.calls.append((list(prompts), max_tokens, temperature, seed))
        return [self.replies[prompt].pop(0) for prompt in prompts]


def number(_, reply):
    return int(reply) if reply.isdigit() else None


def ask(judge, prompts, **knobs):
    return verdicts(judge, prompts, number, [f"sample {p}" for p in prompts], name="mine", **knobs)


def test_an_unreadable_verdict_is_asked_again_and_then_counted():
    judge = Scripted({"a": ["1"], "b": ["what", "2"], "c": ["what", "well", "3"], "d": [None, None, None], "e": ["0"]})
    found = ask(judge, [*"abcde"], retries=2, max_tokens=9, max_unparsable=0.2)
    assert found == [(1, "1"), (2, "2"), (3, "3"), (None, None), (0, "0")]
    assert judge.calls == [([*"abcde"], 9, 0.0, 0), ([*"bcd"], 9, 0.7, 1), ([*"cd"], 9, 0.7, 2)]
    [row] = ledger.current().rows()
    assert (row["kind"], row["cause"], row["count"]) == ("fail", "mine: unparsable verdict", 1)
    assert row["where"] == ["sample d: no reply"]


def test_past_the_share_of_a_run_the_sample_is_named():
    """One never stops a run; the second of 5 is above 0.3 * 5 = 1.5, the second of 7 is not above 2.1."""
    judge = Scripted({"a": ["1"] * 4, "b": ["what?"], "c": ["3"], "d": ["hm"]})
    assert ask(judge, ["a", "b"], retries=0, max_unparsable=0.3)[1] == (None, "what?")
    ask(judge, ["a", "a"], retries=0, max_unparsable=0.3)
    with pytest.raises(RewardError, match=r"'mine': 2 of 5 verdicts .*max_unparsable=0.3; .*sample d, .*replied 'hm'"):
        ask(judge, ["d"], retries=0, max_unparsable=0.3)
    assert [w for row in ledger.current().rows() for w in row["where"]] == [
        "sample b: the judge replied 'what?'",
        "sample d: the judge replied 'hm'",
    ]
    other = Scripted({"a": ["1"] * 5, "b": ["what?"], "d": ["hm"]})
    ask(other, ["a", "b", "a", "a", "a", "a"], retries=0, max_unparsable=0.3)
    assert ask(other, ["d"], retries=0, max_unparsable=0.3) == [(None, "hm")]


def test_a_temperature_of_the_judge_is_kept_when_asking_again():
    judge = Scripted({"a": ["what", "1"]})
    ask(judge, ["a"], temperature=0.9)
    assert [call[2] for call in judge.calls] == [0.9, 0.9]
    with pytest.raises(ConfigError, match="retries=-1"):
        ask(judge, ["a"], retries=-1)
    with pytest.raises(ConfigError, match=r"max_unparsable=1.5 a share"):
        ask(judge, ["a"], max_unparsable=1.5)
