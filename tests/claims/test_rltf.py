"""rltf: what a critique makes possible is taught to the single turn, sooner than two turns alone would learn it."""

import pytest
import torch

from rlpost import rows, step
from rlpost.stack import Reward, RewardStack
from tests import tabular

DIGITS = "0123456789$"
ANSWERS = {"q0": "3", "q1": "8", "q2": "0", "q3": "5"}
KNOBS = ["rollout.max_tokens=2", "rollout.num_generations=4"]


class Teacher:
    """A judge that names the right digit; the table calls it right with 0.9 then."""

    def judge(self, prompts, **how):
        return [next(f"It must be {digit}!" for name, digit in ANSWERS.items() if name in asked) for asked in prompts]


def state(question: str, text: str) -> int:
    """A question and whether a critique stands behind it; then the end."""
    if text:
        return 2 * len(ANSWERS)
    number = next(i for i, name in enumerate(ANSWERS) if name in question)
    return number + (len(ANSWERS) if "must be" in question else 0)


def right(rollout) -> float:
    return float(rollout.text == rollout.task.answer)


def start(alone: float) -> torch.Tensor:
    """The right digit has probability `alone` in the first turn; the two turns share no parameter."""
    logits = torch.zeros(2 * len(ANSWERS) + 1, len(DIGITS))
    logits[:-1, -1], logits[-1, -1] = -20.0, 20.0
    for i, digit in enumerate(ANSWERS.values()):
        logits[i, int(digit)] = torch.tensor(9 * alone / (1 - alone)).log()
        logits[i + len(ANSWERS), int(digit)] = torch.tensor(9 * 9.0).log()
    return logits


def reached(seed: int, *overrides: str, alone: float = 0.02, steps: int = 20) -> float:
    """Single-turn accuracy: the mean probability of the right digits without a critique."""
    policy = tabular.Tabular(DIGITS, start(alone), state, seed)
    tasks = [tabular.task(name, digit) for name, digit in ANSWERS.items()]
    how = {"right": right, "steps": steps, "lr": 60.0, "seed": seed, "models": {"judge": Teacher()}}
    tabular.train(policy, tasks, "rltf", *KNOBS, *overrides, **how)
    return sum(policy.probability(name, digit) for name, digit in ANSWERS.items()) / len(ANSWERS)


@pytest.mark.parametrize("seed", range(3))
def test_distilled_turns_teach_the_single_turn_sooner(seed):
    """The baseline is multi-turn GRPO alone: the same rows with the distilled ones at coefficient 0."""
    assert reached(seed) > reached(seed, "objective.distil=0.0") + 0.25


def test_what_the_policy_gives_less_than_the_floor_is_not_taught():
    """0.004 is below exp(-5) = 0.0067: the distilled rows change nothing, where a lower floor lets them teach."""
    assert reached(0, alone=0.004, steps=10) == reached(0, "objective.distil=0.0", alone=0.004, steps=10)
    assert reached(0, "objective.floor=-6.0", alone=0.004, steps=20) > 0.5


def test_credit_of_one_group_through_the_whole_step():
    """Attempts 3 1 1 1 of q0 (r0 = 1 0 0 0), revisions right, right, wrong: R0 = 1, .1, .1, 0, mean .3.

    Revisions 1, 1, 0 less 2/3; the same rows distilled less the first turn's 1/4.
    """
    collect, method, sampling, n = tabular.collected("rltf", *KNOBS)
    digits = iter("3111330")
    policy = tabular.Tabular(DIGITS, start(0.02), state)

    def engine(prompts, count, how):
        found = policy.engine(prompts, count, how)
        given = [policy.ids[int(next(digits))] for _ in found]
        return [one._replace(tokens=[token, *one.tokens[1:]]) for one, token in zip(found, given, strict=True)]

    stack = RewardStack({"right": Reward(lambda some: [right(r) for r in some])}, {"judge": Teacher()})
    ctx = tabular.context(policy, stack, sampling, n)
    ctx.engine = engine
    found = collect([tabular.task("q0", "3")], ctx)
    assert [r.role for r in found] == ["policy"] * 4 + ["revision", "distilled"] * 3
    credit = step.score(rows.scored(found, stack), method).scored.advantage[:, 0]
    expected = [0.7, -0.2, -0.2, -0.3, 1 / 3, 0.75, 1 / 3, 0.75, -2 / 3, -0.25]
    torch.testing.assert_close(credit, torch.tensor(expected), rtol=0, atol=1e-6)
