"""Lines of a run, metrics of a step, and micro-batches that survive a checkpoint."""

import json
import math

import pytest
import torch

from rlpost import rows, step
from rlpost.errors import RewardError
from rlpost.run.folder import RunFolder
from rlpost.stack import Reward, RewardStack
from rlpost.trainers import grpo
from rlpost.trainers.collect import _measured
from rlpost.trainers.records import pack, prompt_text, rollout_records, scored_records, step_metrics, unpack
from rlpost.types import Counts, Media, Prompt, Rollout, Task
from tests import toy

STACK = RewardStack(
    {"length": Reward(lambda rs: [float(len(r.tokens)) for r in rs], 0.5), "kind": Reward(lambda rs: [None] * len(rs))}
)


def rollout(group: str, tokens: list[int], **more) -> Rollout:
    n = len(tokens)
    task = Task(
        f"task-{group}",
        [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "which way ?"}]}],
        answer="left",
        media=(Media("video", path="a.mp4"),),
        columns={"kind": "mc", "level": 3, "options": ["a", "b"], "nested": {"x": (1, 2)}, "none": None},
        demonstration=[{"role": "assistant", "content": "left"}],
        tags=("easy", "real"),
    )
    prompt = Prompt(
        [5, 6],
        [0, 2],
        {"pixel_values_videos": torch.arange(6.0).reshape(2, 3), "video_grid_thw": torch.tensor([[1, 1, 2]])},
    )
    plain = {
        "task": task, "group": group, "prompt": prompt, "tokens": tokens, "trains": [True] * n, "text": "t" * n,
        "gen_logp": [-0.1 * (i + 1) for i in range(n)], "stop": "eos", "span": list(range(n)), "source": ["policy"] * n,
        "info": {"seconds": 0.5, "note": "ok", "right": True, "parts": [1, 2], "state": torch.ones(2)},
    }  # fmt: skip
    return Rollout(**(plain | more))


def step_of(given: list[Rollout], recipe: str = "grpo", *overrides: str):
    STACK.score(given)
    return step.score(rows.scored(given, STACK, version=4), toy.recipe(recipe, *overrides))


def given_rows() -> list[Rollout]:
    return [
        rollout("a", [1, 2, 3]), rollout("a", [4], stop="length", version=3),
        rollout("b", [5, 6]), rollout("b", [7, 8]),
        rollout("a", [9] * 7, role="contrast", trains=[False] * 7),
    ]  # fmt: skip


def micro_batch() -> rows.MicroBatch:
    some = given_rows()
    credit = step_of(some)
    item = rows.MicroBatch(some[:2], rows.narrow(credit.scored, [0, 1]), Counts(5, 15, 2, micro_batches=2))
    item.logps = {"old_logp": torch.randn(2, 3), "old_entropy": torch.rand(2, 3)}
    return item


def test_a_packed_micro_batch_survives_a_checkpoint(tmp_path):
    item = micro_batch()
    torch.save({"cycle": [[pack(item)]]}, tmp_path / "state.pt")
    found = unpack(torch.load(tmp_path / "state.pt", weights_only=True)["cycle"][0][0])
    assert found.counts == item.counts and set(found.logps) == {"old_logp", "old_entropy"}
    assert all(torch.equal(found.logps[name], item.logps[name]) for name in item.logps)
    for name, value in vars(item.scored).items():
        other = getattr(found.scored, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(other, value, rtol=0, atol=0, equal_nan=True)
        else:
            assert other == value, name
        assert type(other) is type(value), name
    for one, two in zip(item.rollouts, found.rollouts, strict=True):
        for name in (
            "group",
            "tokens",
            "trains",
            "gen_logp",
            "text",
            "stop",
            "span",
            "source",
            "scores",
            "version",
            "role",
        ):
            assert getattr(two, name) == getattr(one, name), name
        assert two.prompt.ids == one.prompt.ids and two.prompt.kinds == one.prompt.kinds
        assert all(torch.equal(two.prompt.features[k], v) for k, v in one.prompt.features.items())
        assert two.task.id == one.task.id and two.task.answer == "left" and two.task.media == ()
        assert two.task.columns["level"] == 3 and two.task.columns["none"] is None
        assert two.info["note"] == "ok" and torch.equal(two.info["state"], torch.ones(2))
    assert item.rollouts[0].task.media, "packing must not change the rollouts in use"


def test_a_micro_batch_without_rows_survives_as_well(tmp_path):
    whole = micro_batch()
    item = rows.MicroBatch([], rows.narrow(whole.scored, []), whole.counts)
    torch.save(pack(item), tmp_path / "state.pt")
    found = unpack(torch.load(tmp_path / "state.pt", weights_only=True))
    assert found.rollouts == [] and found.scored.mask.shape == (0, 0) and found.scored.role == ()


def test_values_of_odd_types_become_text(tmp_path):
    item = micro_batch()
    item.rollouts[0].info = {"odd": {1}, 3: complex(1, 2)}
    torch.save(pack(item), tmp_path / "state.pt")
    found = unpack(torch.load(tmp_path / "state.pt", weights_only=True))
    assert found.rollouts[0].info == {"odd": "{1}", "3": "(1+2j)"}


def test_a_line_per_completion():
    some = given_rows()
    credit = step_of(some, "grpo", "keep=[policy_rows]")
    lines = rollout_records(some, credit, STACK, 9)
    assert json.loads(json.dumps(lines)) == lines
    first = lines[0]
    assert (first["step"], first["task"], first["group"], first["row"], first["tokens"]) == (9, "task-a", "a", 0, 3)
    assert first["prompt"] == "[video]\nwhich way ?" and first["answer"] == "left" and first["stop"] == "eos"
    assert first["scores"] == {"length": 3.0, "kind": None} and first["reward"] == 1.5
    assert first["info"] == {"seconds": 0.5, "note": "ok", "right": True}
    # group a holds 1.5 and 0.5: mean 1, sample deviation 0.7071
    wanted = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert [line["advantage"] for line in lines] == [pytest.approx(wanted), pytest.approx(-wanted), 0.0, 0.0, None]
    assert [line["role"] for line in lines] == ["policy"] * 4 + ["contrast"]


def test_lines_without_training_have_the_plain_reward():
    some = given_rows()
    STACK.score(some)
    lines = scored_records(some, STACK)
    assert [line["reward"] for line in lines] == [1.5, 0.5, 1.0, 1.0, 3.5]
    assert all(line["step"] is None and line["advantage"] is None for line in lines)


def test_metrics_are_of_the_policys_rows():
    some = given_rows()
    found = step_metrics(some, step_of(some, "grpo", "keep=[policy_rows]"), STACK, 5.0)
    assert found["reward"] == 1.0 and found["length"] == 2.0 and found["cut_at_limit"] == 0.25
    assert found["reward_std"] == pytest.approx(math.sqrt(0.5 / 3))
    assert found["rows_kept"] == 0.8 and found["tokens_per_s"] == 3.0 and found["groups_without_signal"] == 0.5
    assert found["reward/length"] == 2.0 and "reward/kind" not in found
    assert found["reward_of_contrast"] == 3.5 and all(math.isfinite(v) for v in found.values())


def test_a_role_that_no_reward_judges_has_no_reward():
    some = [*given_rows(), rollout("a", [3, 3], role="expert", scores=dict.fromkeys(STACK.names))]
    found = step_metrics(some, step_of(some), STACK, 5.0)
    assert "reward_of_expert" not in found and found["reward_of_contrast"] == 3.5


def test_a_step_that_keeps_nothing_has_only_silent_groups():
    some = given_rows()[2:4]
    credit = step_of(some, "grpo", "keep=[mixed_groups]")
    assert not credit.keep.any()
    found = step_metrics(some, credit, STACK, 0.0)
    assert found.pop("groups_without_signal") == 1.0
    assert found["rows_kept"] == found["tokens_per_s"] == 0.0 and all(math.isfinite(v) for v in found.values())


def test_prompts_are_shown_as_text():
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "image"}]}]
    assert prompt_text(Task("t", messages)) == "be brief\n[image]"


def test_a_resumed_run_keeps_the_rewards_before_its_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    for number, reward in enumerate([0.1, 0.3, 0.7], start=1):
        folder.log({"step": number, "reward": reward})
    folder.log({"step": 2, "phase": "eval", "reward": 9.0})
    folder.log({"step": 2, "train_loss": 1.0})
    assert grpo._rewards_until(2, folder) == [0.1, 0.3]
    assert grpo._rewards_until(0, folder) == []


def test_a_metric_that_does_not_apply_says_so_once(caplog):
    def refuses(rollouts):
        raise RewardError("no medium")

    assert _measured("seen", refuses, []) == _measured("seen", refuses, []) == {}
    assert caplog.messages == ["metric seen is not measured: no medium"]
    assert _measured("count", lambda rollouts: {"n": len(rollouts)}, [None, None]) == {"n": 2.0}
