"""Weights that follow how losses go: the worked example, the first steps, the limits, and what a restart keeps."""

import math

import pytest

from rlpost import assemble, schedule
from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.reweight import Recap

NAMES = ["reward/steady", "aux/flat", "aux/falling"]


def weighing(**knobs) -> Recap:
    made = Recap(objectives=NAMES, **knobs)
    made.start(["aux/flat", "reward/steady", "aux/falling"])
    return made


def hear(made: Recap, steps: int, first: int = 0) -> list[dict[str, float]]:
    """What is set after each step of three losses: 1 +- .5 by turns, .7, and .8^t."""
    found = []
    for t in range(first, first + steps):
        oscillating = 1.5 if t % 2 else 0.5
        made.observe({"reward/steady": 1 - oscillating, "aux/flat/mean": 0.7, "aux/falling/mean": 0.8**t, "other": 9.0})
        found.append(made.values())
    return found


def test_the_worked_example():
    """Windows of 10, temperature 5.

    oscillating: means 1 and 1, deviation .5: s = 1 + .5/2 = 1.25; flat: s = 1.
    falling: mut = (1 - .8^10) / (10 * .2) = .446313, mu = .8^10 mut = .047922, E x^2 = .8^20 (1 - .64^10) / (10 * .36)
    = .0031654, so sg = sqrt(.0031654 - .0022965) = .029477; s = .107374 + .029477 / .494235 = .167016.
    exp(s / 5) = 1.284025, 1.221403, 1.033967; their sum 3.539395; times 3 over it: 1.08835, 1.03527, .87638.
    """
    values = hear(weighing(), 20)[-1]
    assert values == pytest.approx({NAMES[0]: 1.08835, NAMES[1]: 1.03527, NAMES[2]: 0.87638}, abs=2e-5)


def test_weights_are_one_for_two_windows_and_add_up_to_their_number():
    found = hear(weighing(window=3, temperature=0.5), 40)
    assert found[:5] == [dict.fromkeys(NAMES, 1.0)] * 5
    assert all(math.fsum(values.values()) == pytest.approx(3.0, rel=1e-12) for values in found)
    assert found[5]["reward/steady"] > found[5]["aux/flat"] > found[5]["aux/falling"]
    calm = hear(weighing(window=3, temperature=1e9), 6)[-1]
    assert calm == pytest.approx(dict.fromkeys(NAMES, 1.0), abs=1e-8)


def test_losses_of_nothing_count_as_flat():
    """s = 1 for both: no loss in either window, and .4 throughout. Losses from 0 on: ratio 1, .1 / .2 apart."""
    made = Recap(objectives=["a", "b"], window=2, temperature=1.0)
    for _ in range(4):
        made.observe({"a/mean": 0.0, "b/mean": 0.4})
    assert made.values() == {"a": 1.0, "b": 1.0}
    for loss in (0.1, 0.3):  # mu .2, mut 0, sg .1: s = 1 + .1 / .2 = 1.5
        made.observe({"a/mean": loss, "b/mean": 0.4})
    assert made.values()["a"] == pytest.approx(2 * math.exp(1.5) / (math.exp(1.5) + math.exp(1.0)), rel=1e-9)


def test_a_step_without_a_loss_is_in_no_window():
    made, other = weighing(window=2), weighing(window=2)
    for t in range(4):
        hear(made, 1, first=t)
        made.observe({"reward/steady": 0.3})
        hear(other, 1, first=t)
    assert [len(losses) for losses in made.state_dict()["losses"].values()] == [4, 4, 4]
    assert made.values()["aux/flat"] != other.values()["aux/flat"], "the reward has other windows, so all shares change"


def test_what_it_remembers_survives():
    whole, first = weighing(window=3), weighing(window=3)
    values = hear(whole, 9)
    hear(first, 7)
    again = weighing(window=3)
    again.load_state_dict(first.state_dict())
    assert again.values() == values[6] != dict.fromkeys(NAMES, 1.0)
    assert hear(again, 2, first=7) == values[7:]
    with pytest.raises(ConfigError, match=r"over 3 steps, this run .* over 4"):
        weighing(window=4).load_state_dict(first.state_dict())


def test_what_cannot_be_weighed_is_refused():
    with pytest.raises(ConfigError, match=r"'aux/flat', which is no reward and no stream .* did you mean 'aux/flap'"):
        Recap(objectives=NAMES).start(["reward/steady", "aux/flap"])
    for knobs in ({"objectives": ["a"]}, {"objectives": ["a", "a"]}, {"objectives": ["a", "b"], "temperature": 0.0}):
        with pytest.raises(ConfigError, match="two or more different objectives"):
            Recap(**knobs)


def test_a_knob_is_told_its_number():
    made = weighing(window=1)
    hear(made, 2)
    now = made.values()["aux/falling"]
    assert schedule.told(0, 0.0, by=made, of="aux/falling", times=0.5) == 0.5 * now != 0.5
    with pytest.raises(ConfigError, match=r"'aux/fallin', which Recap does not set; did you mean 'aux/falling'"):
        schedule.told(0, 0.0, by=made, of="aux/fallin")
    with pytest.raises(ConfigError, match="it sets nothing"):
        schedule.told(0, 0.0, by=3.0, of="a")


def test_all_knobs_of_a_run_share_one_object():
    """Two rewards and a stream read the same weights, which move them together."""
    cfg = compose("grpo", ["recipe=recap_reweight", "schedules.reweight.window=1", "schedules.reweight.temperature=1"])
    check(cfg)
    tree, states = assemble.with_states(cfg.tree)
    stack, stream = assemble.reward_stack(tree), assemble.stream("replay", tree["aux"]["replay"])
    assert stack.weights.tolist() == [1.0, 1.0]
    states["reweight"].observe({"reward/correct": 0.0, "reward/format": 0.0, "aux/replay/mean": 2.0})
    states["reweight"].observe({"reward/correct": 0.5, "reward/format": 0.0, "aux/replay/mean": 6.0})
    # s = mu / mut: .5, 1, 3
    shares = [math.exp(s) for s in (0.5, 1.0, 3.0)]
    expected = [3 * share / sum(shares) for share in shares]
    assert stack.at(7, 0.1).weights.tolist() == pytest.approx(expected[:2], rel=1e-6)
    assert stream.objective.coef(7, 0.1) == pytest.approx(expected[2], rel=1e-9)
    assert assemble.with_states(compose("grpo", ["recipe=chord"]).tree)[1] == {}, "a function remembers nothing"


def test_a_state_that_nobody_would_tell_is_refused_before_anything_runs():
    inline = "{_target_: rlpost.reweight.Recap, objectives: [reward/correct, reward/format]}"
    told = f"reward.correct.weight={{_target_: rlpost.schedule.told, by: {inline}, of: reward/correct}}"
    with pytest.raises(ConfigError, match=r"reward.correct.weight.by remembers .* all knobs must share it"):
        check(compose("grpo", ["reward=[correct,format]", told]))
    with pytest.raises(ConfigError, match=r"schedules.mine remembers how a run goes, which only `rlpost grpo` tells"):
        check(compose("sft", [f"schedules.mine={inline}"]))
