"""Actions against an expert's, trajectories played again, and the generated screens."""

import pytest

from rlpost.dataset.gui import gui
from rlpost.environment import gui_action
from rlpost.environment.expert import ExpertTrajectory
from rlpost.errors import ConfigError, DataError, RewardError
from rlpost.reward.gui import action_score
from rlpost.types import Prompt, Rollout, Task

CLICK = {"screen": "s0", "action": {"action": "click", "coordinate": [15, 25]}, "box": [10, 20, 20, 30], "thought": "w"}
TYPE = {"screen": "s1", "action": {"action": "type", "text": "Apple"}, "box": None, "thought": "x"}


def say(action: str, thought: str = "why") -> str:
    return f"<think>{thought}</think>\n<action>{action}</action>"


@pytest.mark.parametrize(("said", "step", "wanted"), [
    (say('{"action": "click", "coordinate": [10, 30]}'), CLICK, 1.0),
    (say('{"action": "click", "coordinate": [9, 25]}'), CLICK, 0.5),
    (say('{"action": "click", "coordinate": [15, 31]}'), CLICK, 0.5),
    (say('{"action": "click", "coordinate": [15]}'), CLICK, 0.5),
    (say('{"action": "click"}'), CLICK, 0.5),
    (say('{"action": "click", "coordinate": [15, 25], "text": "more"}'), CLICK, 0.5),
    (say('{"action": "type", "text": " apple "}'), TYPE, 1.0),
    (say('{"action": "type", "text": "pear"}'), TYPE, 0.5),
    (say('{"action": "finish"}'), TYPE, 0.1),
    (say('{"do": "click"}'), CLICK, 0.0), (say("[1]"), CLICK, 0.0), (say("click"), CLICK, 0.0), ("", CLICK, 0.0),
    (say("[" * 100_000), CLICK, 0.0),
    ('{"action": "click", "coordinate": [15, 25]}', CLICK, 0.0),
])  # fmt: skip
def test_agreement(said, step, wanted):
    assert gui_action.agreement(said, step) == wanted


def rollout(text: str, index: int, steps=(CLICK, TYPE)) -> Rollout:
    return Rollout(Task("t", [], columns={"steps": steps} if steps else {}), "g", Prompt([]), [], [], [], text, "eos",
                   index=index)  # fmt: skip


def test_scores_of_steps():
    """0.1 for a thought and 0.9 of the agreement; the row's place picks the expert's step."""
    right = say('{"action": "type", "text": "apple"}')
    rows = [
        rollout(right, 1),
        rollout(right, 0),
        rollout(right.replace("why", " "), 1),
        rollout("", 0),
        rollout(right, 0, ()),
    ]
    assert action_score(rows) == [1.0, pytest.approx(0.19), 0.9, 0.0, None]
    with pytest.raises(RewardError, match="index 2 of 2"):
        action_score([rollout(right, 2)])


def test_history_is_the_policys_own_or_the_experts():
    task = Task("t", [{"role": "user", "content": "s0"}], columns={"steps": [CLICK, TYPE, TYPE]})
    episode = ExpertTrajectory(patches=1).reset(task, None)
    good, bad = say('{"action": "click", "coordinate": [11, 22]}'), say('{"action": "finish"}')
    first = episode.step(good, "eos")
    assert (first.messages, first.instead) == ([{"role": "user", "content": "s1"}], None)
    second = episode.step(bad, "eos")
    assert second.instead == '<think>x</think>\n<action>{"action": "type", "text": "Apple"}</action>'
    assert not episode.step(bad, "eos").messages and episode.info == {"patched": 1}
    bare = ExpertTrajectory(patches=-1, thoughts=False).reset(task, None)
    assert bare.step(bad, "eos").instead.startswith("<think></think>")
    assert bare.step(bad, "eos").instead and not bare.step(good, "eos").messages
    ended = ExpertTrajectory(patches=0).reset(task, None)
    assert not ended.step(bad, "eos").messages
    with pytest.raises(DataError, match="no expert steps"):
        ExpertTrajectory().reset(Task("t", []), None)
    with pytest.raises(ConfigError, match="patches=-2"):
        ExpertTrajectory(patches=-2)


def test_generated_trajectories():
    tasks = gui("train", train=60)
    assert {task.tags[0] for task in tasks} == {"open", "write", "switch"}
    assert {len(task.columns["steps"]) for task in tasks} == {3, 4, 5}
    for task in tasks:
        steps = task.columns["steps"]
        assert steps[0]["screen"] in task.prompt[0]["content"] and steps[-1]["action"] == {"action": "finish"}
        for step in steps:
            assert gui_action.matches(gui_action.written(step["thought"], step["action"]), step)
            if step["box"]:
                x1, y1, x2, y2 = step["box"]
                assert f"{x1},{y1},{x2},{y2}" in step["screen"] and x1 < x2 and y1 < y2
    assert gui("train", train=3)[2] == tasks[2] and gui("test", test=3)[2].prompt != tasks[2].prompt
    with pytest.raises(ConfigError, match="split 'dev'"):
        gui("dev")
