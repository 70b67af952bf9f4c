"""GAIN-RL's centre by hand, its draws, and resume."""

import json
import math
import random
from collections import Counter

import pytest

from rlpost.curriculum.gain import GainRl
from rlpost.errors import ConfigError, DataError
from rlpost.types import Outcome, Task


def tasks(n, step=1):
    """Scores that rise with the index, so that the last task comes first; `step` permutes them."""
    return [Task(id=str(i), prompt=(), columns={"angle": (i * step) % n}) for i in range(n)]


def started(n=40, **knobs):
    gain = GainRl(**knobs)
    gain.start(tasks(n))
    return gain


def outcome(mean, angle):
    return Outcome(task_id="0", n=2, mean=mean, std=0, best=0, tokens=1, step=0, angle=angle)


@pytest.mark.parametrize(
    ("accuracy", "angle", "wanted"),
    [(0.1, 0.3, 0.0), (0.5, 0.3, 268.5), (0.9, 0.5, 712.8), (1.0, 5.0, 880.8)],
)
def test_how_far_the_centre_moves(accuracy, angle, wanted):
    # 500 tanh(2 (acc - .5)) + 500 tanh(2 ang); the first is -332.0 + 268.5, held at 0; the last tanh(1) + 1
    assert GainRl().step_of_centre(accuracy, angle) == pytest.approx(wanted, abs=0.05)


def test_the_limits_and_the_other_knobs():
    gain = GainRl(shift=1000.0, alpha=1.0, beta=0.2, min_shift=-50.0, max_shift=900.0)
    assert gain.step_of_centre(1.0, 1.0) == 900  # 664 + 762
    assert gain.step_of_centre(0.0, 0.05) == -50  # -197 + 50
    assert gain.step_of_centre(0.4, 0.1) == pytest.approx(1000 * (math.tanh(0.2) + math.tanh(0.1)))


def test_an_epoch_is_dealt_in_order_of_rank():
    gain = GainRl(subset=100)
    gain.start(tasks(7, step=3))
    # scores 0 3 6 2 5 1 4, so the ranking is 2 4 6 1 3 5 0; fewer tasks than `subset`: all of them
    assert gain.ranking == [2, 4, 6, 1, 3, 5, 0]
    assert gain.pick(9, random.Random(0)) == [2, 4, 6, 1, 3, 5, 0, 2, 4]


def test_the_draw_is_a_gaussian_of_ranks_without_replacement():
    gain, rng, first = started(n=40, subset=4, sigma=6.0), random.Random(1), Counter()
    for _ in range(1500):
        epoch = gain.pick(4, rng)
        assert len(set(epoch)) == 4 and epoch == sorted(epoch, reverse=True)
        first.update(39 - i for i in epoch)
    one = started(n=40, subset=1, sigma=6.0)
    one.centre = 12.0
    drawn = Counter(39 - one.pick(1, rng)[0] for _ in range(3000))
    weights = [math.exp(-0.5 * ((i - 12) / 6) ** 2) for i in range(40)]
    for i in (3, 12, 20):
        p = weights[i] / sum(weights)
        assert drawn[i] == pytest.approx(3000 * p, abs=3.5 * math.sqrt(3000 * p * (1 - p)))
    assert first[0] > first[8] > first[16] > first[30]


def test_an_epochs_groups_move_the_centre_once():
    gain, rng = started(n=40, subset=4, sigma=5.0, full_marks=2.0), random.Random(0)
    gain.pick(4, rng)
    gain.observe([outcome(2.0, 0.5), outcome(1.6, 0.5)], {})
    gain.observe([outcome(1.8, 0.5)], {})
    assert gain.centre == 0
    # mean accuracy 5.4 / 3 / 2 = .9, angle .5
    gain.pick(1, rng)
    assert gain.centre == pytest.approx(712.8, abs=0.05)
    gain.pick(3, rng)
    gain.pick(1, rng)  # nothing was observed of this epoch
    assert gain.centre == pytest.approx(712.8, abs=0.05)
    gain.observe([outcome(1.0, 0.3)], {})
    gain.pick(4, rng)
    assert gain.centre == pytest.approx(712.8 + 268.5, abs=0.1)
    assert set(gain.pick(3, rng)) <= set(range(10))  # far past the end the last ranks are left


def test_resume_continues_exactly():
    gain, rng = started(subset=6, sigma=9.0), random.Random(5)
    gain.pick(6, rng)
    gain.observe([outcome(0.4, 0.2)], {})
    gain.pick(2, rng)
    gain.observe([outcome(0.7, 0.1)], {})
    state, stream = json.loads(json.dumps(gain.state_dict())), rng.getstate()
    wanted = gain.pick(15, rng)
    again, rng = GainRl(subset=6, sigma=9.0), random.Random()
    again.start([Task(id=str(i), prompt=()) for i in range(40)])  # the ranking comes from the checkpoint
    again.load_state_dict(state)
    rng.setstate(stream)
    assert again.pick(15, rng) == wanted and again.state_dict() == gain.state_dict()
    with pytest.raises(DataError, match="40 tasks, the dataset has 7"):
        started(n=7).load_state_dict(state)


def test_what_is_missing_is_a_sentence():
    gain = GainRl()
    gain.start([Task(id="0", prompt=(), columns={"angle": 1}), Task(id="1", prompt=())])
    with pytest.raises(DataError, match="no order of the tasks"):
        gain.pick(1, random.Random(0))
    with pytest.raises(DataError, match="reads the angle concentration"):
        started().observe([Outcome(task_id="0", n=1, mean=0, std=0, best=0, tokens=1, step=0)], {})
    for knobs in ({"sigma": 0.0}, {"subset": 0}, {"full_marks": 0.0}, {"min_shift": 2.0, "max_shift": 1.0}):
        with pytest.raises(ConfigError, match="gain_rl needs"):
            GainRl(**knobs)
