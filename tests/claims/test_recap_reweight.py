"""recap_reweight: weight moves away from what falls fast and towards what stands still or wavers, where a uniform mix
keeps its shares."""

import random

import pytest

from rlpost.config import build, compose

STEPS = 60


def losses(name: str, t: int, rng: random.Random) -> float:
    """Three noisy streams: one wavers around a constant, one stands still, one falls to a tenth in about 20 steps."""
    noise = rng.gauss(0.0, 0.01)
    return {"wavers": 1.0 + 0.5 * (-1) ** t, "stands": 0.6, "falls": 0.9**t + 0.02}[name] * (1 + noise)


def weights(seed: int, *overrides: str) -> list[dict[str, float]]:
    """What the recipe's own node sets after each step."""
    named = "schedules.reweight.objectives=[wavers,stands,falls]"
    made = build(compose("grpo", ["recipe=recap_reweight", named, *overrides]).tree["schedules"]["reweight"])
    rng, found = random.Random(seed), []
    for t in range(STEPS):
        made.observe({f"{name}/mean": losses(name, t, rng) for name in ("wavers", "stands", "falls")})
        found.append(made.values())
    return found


@pytest.mark.parametrize("seed", range(3))
def test_weights_leave_the_one_that_falls(seed):
    found, uniform = weights(seed), weights(seed, "schedules.reweight.temperature=1e9")
    for t, (now, flat) in enumerate(zip(found, uniform, strict=True)):
        assert sum(now.values()) == pytest.approx(3.0, rel=1e-12)
        assert flat == pytest.approx({"wavers": 1.0, "stands": 1.0, "falls": 1.0}, abs=1e-8)
        if t < 19:
            assert set(now.values()) == {1.0}
        elif t < 30:  # it falls to below two thirds from one window to the next
            assert now["wavers"] > now["stands"] + 0.02 > now["falls"] + 0.05
    assert found[19]["falls"] < 0.95 and found[-1]["falls"] > 0.95, "once it stands still too, it gets its share back"


@pytest.mark.parametrize("seed", range(3))
def test_a_reward_that_is_almost_always_full_counts_as_unsteady(seed):
    """What the equation says of rare failures, which its words do not: one in the window makes mu small beside sg."""
    made = build(compose("grpo", ["recipe=recap_reweight"]).tree["schedules"]["reweight"])
    rng = random.Random(seed)
    for _ in range(19):
        made.observe({"reward/correct": 1.0, "reward/format": rng.uniform(0.4, 0.42), "aux/replay/mean": 1.0})
    made.observe({"reward/correct": 0.875, "reward/format": 0.4, "aux/replay/mean": 1.0})
    # mu .0125, mut 0, sg = .125 * sqrt(.1 * .9) = .0375: s = 1 + 3; the others have s = 1 and about 1:
    # 3 exp(.8) / (exp(.8) + 2 exp(.2)) = 6.67662 / 4.66835 = 1.4302
    assert made.values()["reward/correct"] == pytest.approx(1.430, abs=0.01)
