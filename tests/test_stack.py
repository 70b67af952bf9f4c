"""The reward stack: routing, tables, and every way in which a reward can go wrong named with its sample."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlpost import ledger
from rlpost.errors import ConfigError, RewardError
from rlpost.lift import group_rows, pairwise
from rlpost.rows import scored as rows_of
from rlpost.stack import Reward, RewardStack, row_score
from rlpost.types import Prompt, Rollout, Task


def rollout(name: str, text: str = "", **columns) -> Rollout:
    return Rollout(Task(name, [], columns=columns), name, Prompt([]), [1, 2], [True] * 2, [0.0] * 2, text, "eos")


def rows() -> list[Rollout]:
    return [
        rollout("t0", "seven", kind="numerical", level=1),
        rollout("t1", "eleven", kind="free", level=2),
        rollout("t2", "", kind="numerical", level=2),
        rollout("t3", "a"),
    ]


def length(rollouts) -> list[float]:
    return [float(len(r.text)) for r in rollouts]


def stack(**rewards) -> RewardStack:
    return RewardStack({name: r if isinstance(r, Reward) else Reward(r) for name, r in rewards.items()})


@pytest.mark.parametrize(
    ("when", "applies"),
    [
        ({}, [0, 1, 2, 3]),
        ({"kind": "numerical"}, [0, 2]),
        ({"kind": ["numerical", "free"]}, [0, 1, 2]),
        ({"kind": ("free",), "level": 2}, [1]),
        ({"kind": "numerical", "level": [1, 2]}, [0, 2]),
        ({"kind": None}, [3]),
        ({"missing": "x"}, []),
    ],
)
def test_a_reward_sees_only_the_rows_it_is_routed_to(when, applies):
    seen = []

    def spy(rollouts):
        seen.extend(r.task.id for r in rollouts)
        return [1.0] * len(rollouts)

    given = rows()
    stack(spy=Reward(spy, when=when)).score(given)
    assert seen == [f"t{i}" for i in applies]
    assert [r.scores["spy"] for r in given] == [1.0 if i in applies else None for i in range(4)]


def test_the_table_has_a_column_per_reward_in_order_and_nan_where_none():
    def half(rollouts):
        return [None if not r.text else True for r in rollouts]

    both = stack(length=Reward(length, weight=2.0), half=Reward(half, weight=0.5, when={"level": [1, 2]}))
    given = rows()
    both.score(given)
    assert both.names == ("length", "half") and both.weights.tolist() == [2.0, 0.5]
    found = both.table(given)
    torch.testing.assert_close(
        found,
        torch.tensor([[5.0, 1.0], [6.0, 1.0], [0.0, math.nan], [1.0, math.nan]]),
        equal_nan=True,
    )
    assert given[2].scores == {"length": 0.0, "half": None}
    assert both.table([]).shape == (0, 2) and stack().table(given).shape == (4, 0)


def test_a_reward_may_score_every_span_of_a_rollout():
    """Row 0 has three spans of which the second has no score, row 1 none marked (one span), rows 2 and 3 no list."""
    given = rows()
    given[0].tokens, given[0].span = [1, 2, 3, 4, 5], [0, 0, 1, -1, 2]
    scores = [[0.5, None, -1.5], (2,), None, 4.0]
    both = stack(length=length, steps=lambda rs: scores)
    both.score(given)
    assert [r.scores["steps"] for r in given] == [[0.5, None, -1.5], [2.0], None, 4.0]
    nan = math.nan
    expected = torch.tensor([[0.5, nan, -1.5], [2.0, nan, nan], [nan] * 3, [nan] * 3])
    found = both.span_table(given)
    torch.testing.assert_close(found[..., 1], expected, equal_nan=True)
    assert found.shape == (4, 3, 2) and found[..., 0].isnan().all()
    means = torch.tensor([[5.0, -0.5], [6.0, 2.0], [0.0, nan], [1.0, 4.0]])
    torch.testing.assert_close(both.table(given), means, equal_nan=True)
    assert [row_score(r.scores["steps"]) for r in given] == [-0.5, 2.0, None, 4.0]
    assert row_score([None, None]) is None and stack(length=length).span_table(given).shape == (4, 0, 1)


def test_scores_that_are_there_are_kept():
    given = rows()
    given[1].scores["length"] = 99.0
    given[2].scores["length"] = None
    calls = []
    stack(length=lambda rollouts: calls.append(len(rollouts)) or length(rollouts)).score(given)
    assert [r.scores["length"] for r in given] == [5.0, 99.0, None, 1.0] and calls == [2]


def test_a_reward_may_name_what_the_run_knows():
    def late(rollouts, step, progress, *, knob):
        return [step + progress + knob] * len(rollouts)

    given = rows()[:1]
    stack(late=functools.partial(late, knob=100.0)).score(given, {"step": 7, "progress": 0.5, "models": {}})
    assert given[0].scores == {"late": 107.5}


def raises(rollouts):
    if any(r.text == "eleven" for r in rollouts):
        raise KeyError("no answer")
    return length(rollouts)


def raises_on_two(rollouts):
    if len(rollouts) > 1:
        raise RuntimeError("too many")
    return length(rollouts)


BROKEN = [
    (raises, r"'bad' raised KeyError: 'no answer' on task t1, completion 'eleven'"),
    (raises_on_two, r"'bad' raised RuntimeError: too many on a batch of 4 rollouts .*t0"),
    (lambda rs: [1.0, math.nan, 1.0, 1.0], r"'bad' returned nan on task t1, completion 'eleven'"),
    (lambda rs: [1.0, 1.0, -math.inf, 1.0], r"'bad' returned -inf on task t2"),
    (lambda rs: [1.0] * 3, r"'bad' returned 3 scores for 4 rollouts.*on task t0"),
    (lambda rs: [1.0] * 5, r"'bad' returned 5 scores for 4 rollouts"),
    (lambda rs: [], r"'bad' returned 0 scores for 4 rollouts"),
    (lambda rs: [1.0, "0.5", 1.0, 1.0], r"'bad' returned '0.5' on task t1"),
    (lambda rs: "1111", r"'bad' returned '1' on task t0"),
    (lambda rs: [[1.0, 2.0]] * 4, r"'bad' returned 2 scores for 1 spans on task t0"),
    (lambda rs: [1.0, [math.inf], 1.0, 1.0], r"'bad' returned inf on task t1"),
    (lambda rs: [1.0, ["x"], 1.0, 1.0], r"'bad' returned 'x' on task t1"),
    (lambda rs: None, r"'bad' raised TypeError"),
    (lambda rs: 1.0, r"'bad' raised TypeError"),
    (lambda rs: [torch.ones(2)] * 4, r"'bad' returned tensor\(\[1., 1.\]\) on task t0"),
    (lambda rs: [np.ones(3)] * 4, r"'bad' returned array\(\[1., 1., 1.\]\) on task t0"),
    (lambda rs: [1.0, 1.0, 1.0, 1j], r"'bad' returned 1j on task t3"),
]


@pytest.mark.parametrize(("reward", "said"), BROKEN)
def test_a_broken_reward_is_named_with_its_sample(reward, said):
    ledger.reset()
    with pytest.raises(RewardError, match=said) as caught:
        stack(fine=length, bad=reward).score(rows())
    assert caught.value.exit_code == 5
    (entry,) = ledger.current().rows()
    assert entry["kind"] == "fail" and entry["count"] == 1 and entry["cause"].startswith("reward 'bad' r")
    ledger.reset()


@pytest.mark.parametrize("kind", [RewardError, ConfigError])
def test_an_error_of_ours_in_a_reward_passes_through(kind):
    def refuses(rollouts):
        raise kind("sandbox is down; start it")

    with pytest.raises(kind, match=r"^sandbox is down; start it$"):
        stack(refuses=refuses).score(rows())


@pytest.mark.parametrize("scores", [(1, 0, 1, 0), np.array([1.0, 0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 0.0])])
def test_any_sequence_of_numbers_is_fine(scores):
    given = rows()
    stack(ok=lambda rs: scores).score(given)
    assert [r.scores["ok"] for r in given] == [1.0, 0.0, 1.0, 0.0]
    assert all(type(r.scores["ok"]) is float for r in given)


@pairwise
def longer(rollouts):
    """Each row against each member of its group: +1 where its text is longer."""
    members = {i: rows for rows in group_rows(rollouts).values() for i in rows}
    size = [len(r.text) for r in rollouts]
    return [[float(size[i] - size[j]) for j in members[i]] for i in range(len(rollouts))]


def grouped() -> list[Rollout]:
    """Two groups side by side, of three rows and of two."""
    names = [("a", "seven"), ("b", "xx"), ("a", "eleven!"), ("b", "yyyyy"), ("a", "")]
    return [replace(rollout(name, text, kind=name), group=name) for name, text in names]


def test_a_pairwise_reward_gives_lists_their_means_and_the_table_of_pairs():
    given = grouped()
    both = stack(longer=Reward(longer, weight=2.0), length=length)
    both.score(given)
    assert given[0].scores["longer"] == [0.0, -2.0, 5.0] and given[1].scores["longer"] == [0.0, -3.0]
    torch.testing.assert_close(both.table(given)[:, 0], torch.tensor([1.0, -1.5, 3.0, 1.5, -4.0]))
    assert not both.scores_spans(given[0]) and both.span_table(given).shape[1] == 0
    nan = math.nan
    wanted = [[0.0, -4, 10], [0, -6, nan], [4, 0, 14], [6, 0, nan], [-10, -14, 0]]
    torch.testing.assert_close(both.pairs(given), torch.tensor(wanted), equal_nan=True)
    assert stack(length=length).pairs(given) is None
    assert (
        rows_of(given, both).pair_rewards.shape == (5, 3) and rows_of(given, stack(length=length)).pair_rewards is None
    )


def test_several_pairwise_rewards_add_up_where_they_apply():
    given = grouped()
    two = stack(all=longer, some=Reward(functools.partial(longer), weight=0.5, when={"kind": "b"}))
    two.score(given)
    assert given[0].scores["some"] is None and given[1].scores["some"] == [0.0, -3.0]
    torch.testing.assert_close(two.pairs(given)[1, :2], torch.tensor([0.0, -4.5]))
    torch.testing.assert_close(two.pairs(given)[0], torch.tensor([0.0, -2.0, 5.0]))
    only = stack(some=Reward(longer, when={"kind": "b"}))
    fresh = grouped()
    only.score(fresh)
    assert only.pairs(fresh).isnan().all(-1).tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ([[0.0, 1.0]] * 5, r"'bad' compares within groups and returned 2 scores for task a, .*has 3 members"),
        ([[0.0, 1.0, 2.0]] * 5, r"'bad' .*returned 3 scores for task b"),
        ([[0.0, None, 1.0], [0.0, 1.0]] * 3, r"'bad' returned None against a member .*task a"),
        ([[0.0, math.nan, 1.0], [0.0, 1.0]] * 3, r"'bad' returned nan on task a"),
        ([1.0] * 5, r"'bad' returned 1.0 for task a, .*a list"),
    ],
)
def test_a_broken_pairwise_reward_is_named_with_its_sample(lists, said):
    with pytest.raises(RewardError, match=said):
        stack(bad=pairwise(lambda rollouts: lists[: len(rollouts)])).score(grouped())


def test_a_list_is_refused_from_a_reward_that_is_not_marked():
    with pytest.raises(RewardError, match=r"'plain' returned 3 scores for 1 spans"):
        stack(plain=lambda rollouts: longer(rollouts)).score(grouped())


class Memory:
    """Scores a row by how often its text was observed."""

    def __init__(self):
        self.seen = []

    def __call__(self, rollouts):
        return [float(self.seen.count(r.text)) for r in rollouts]

    def observe(self, rollouts):
        self.seen += [r.text for r in rollouts]

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


def test_a_reward_that_remembers_sees_what_it_applies_to_and_survives_a_restart():
    def fresh():
        return stack(memory=Reward(Memory(), when={"kind": "b"}), length=length)

    first, given = fresh(), grouped()
    first.at(3, 0.5).score(given)
    assert [r.scores["memory"] for r in given] == [None, 0.0, None, 0.0, None]
    first.at(3, 0.5).observe([*given, *given[:2]])
    assert first.state_dict() == {"memory": {"seen": ["xx", "yyyyy", "xx"]}}
    second = fresh()
    second.load_state_dict(first.state_dict())
    later = grouped()
    second.score(later)
    assert [r.scores["memory"] for r in later] == [None, 2.0, None, 1.0, None]
    second.load_state_dict({})
    assert stack(length=length).state_dict() == {}
