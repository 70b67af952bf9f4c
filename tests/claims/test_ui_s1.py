"""ui_s1: the worked returns and rollout lengths, and later steps that are learnt although an early one is hard."""

import random

import pytest
import torch

from rlpost import rows, step
from rlpost.environment.expert import ExpertTrajectory
from rlpost.rollout.context import Context
from rlpost.rollout.turns import multi_turn
from rlpost.stack import Reward, RewardStack
from rlpost.types import Task
from tests import tabular, toy

LENGTH, SYMBOLS = 4, "abcd$"


class Letters(ExpertTrajectory):
    """An action is a letter."""

    def matches(self, said, step):
        return said == step["action"]

    def patch(self, step):
        return step["action"]


def task(name: str, actions: str) -> Task:
    steps = [{"screen": f"screen {i}", "action": letter} for i, letter in enumerate(actions)]
    return Task(name, [{"role": "user", "content": f"{name} screen 0"}], columns={"steps": steps})


TASK = task("t", "bcda")


def state(question: str, text: str) -> int:
    """The screen; once something is said, the end."""
    return LENGTH if text else int(question.rpartition("screen ")[2][0])


def start(first: float) -> torch.Tensor:
    """The first step is right with probability `first`, the others with 1/4; then the turn ends."""
    logits = torch.zeros(LENGTH + 1, len(SYMBOLS))
    logits[:, -1], logits[-1, -1] = -20.0, 20.0
    logits[0, 1] = torch.log(torch.tensor(3 * first / (1 - first)))
    return logits


def agreement(rollouts) -> list[float]:
    return [0.1 + 0.9 * (r.text == r.task.columns["steps"][r.index]["action"]) for r in rollouts]


def stack() -> RewardStack:
    return RewardStack({"action_score": Reward(agreement), "action_return": Reward(agreement)})


def played(script: str, patches: int):
    """Rows of one trajectory in which the script says a letter per step."""
    policy = tabular.Tabular(SYMBOLS, start(0.5), state)
    said = iter(script)

    def engine(prompts, n, sampling):
        token = [policy.ids[SYMBOLS.index(next(said))], policy.ids[-1]]
        return [tabular.Completion(token, [-0.5, -0.5], "eos")]

    ctx = Context(engine, tabular.ENCODER, stack(), tabular.Sampling(2), 1, random.Random(0))
    found = multi_turn([TASK], ctx, environment=Letters(patches=patches), max_turns=9, rows="turn", score="each")
    ctx.score(found)
    return found


@pytest.mark.parametrize(("patches", "length"), [(0, 3), (1, 4), (-1, 4)])
def test_the_patch_threshold_decides_how_long_a_rollout_is(patches, length):
    """Right, right, wrong, right: without a patch it ends at the mistake."""
    found = played("bcaa", patches)
    assert [r.index for r in found] == list(range(length))
    if length == 4:
        told = tabular.ENCODER.tokenizer.decode(found[3].prompt.ids)
        assert "assistant\nc<|im_end|>" in told and "assistant\nd<|im_end|>" in told and "assistant\na" not in told
        assert found[3].info["patched"] == 1


def test_the_papers_returns():
    """Matches 1 1 0 1, scores 1 1 0.1 1, gamma 0.5: returns 1.5, 1, 0.1, 1."""
    found, method = played("bcaa", 1), toy.recipe("ui_s1", "keep.return_spread.least=-1.0")
    credit = step.score(rows.scored(found, stack()), method)
    torch.testing.assert_close(credit.shaped[:, 0], torch.tensor([1.0, 1.0, 0.1, 1.0]))
    torch.testing.assert_close(credit.shaped[:, 1], torch.tensor([1.5, 1.0, 0.1, 1.0]))


def reached(patches: int, seed: int, steps: int = 4, lr: float = 8.0) -> float:
    """The mean probability of the right action on the screens behind the first."""
    policy = tabular.Tabular(SYMBOLS, start(0.1), state, seed)
    method = toy.recipe("ui_s1", "keep.return_spread.least=-1.0")
    optimizer = torch.optim.SGD([policy.logits], lr=lr)
    for i in range(steps):
        ctx = Context(policy.engine, tabular.ENCODER, stack(), tabular.Sampling(2), 8, random.Random(i))
        env = Letters(patches=patches)
        found = multi_turn([TASK], ctx, environment=env, max_turns=9, rows="turn", score="each")
        ctx.score(found)
        value = tabular.objective(policy, found, method, stack())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    p = policy.logits.detach().softmax(-1)
    return sum(float(p[i, SYMBOLS.index("bcda"[i])]) for i in range(1, LENGTH)) / (LENGTH - 1)


@pytest.mark.parametrize("seed", range(3))
def test_patches_reach_the_steps_behind_a_mistake(seed):
    """After 4 steps; after 12 the rollouts without patches have caught up, since this first step is learnt quickly."""
    assert reached(-1, seed) > reached(0, seed) + 0.2
