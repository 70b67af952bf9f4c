"""A reference that follows the policy during a run, and stands in the checkpoint."""

import pytest
import torch
from safetensors.torch import load_file

from rlpost.errors import ConfigError
from rlpost.execute import execute

MOVING = ["reference=moving_average", "reference.decay=0.75", "reference.every=1", "regularizer=[kl_k3,entropy_bonus]"]


def run(folder, *overrides):
    execute(
        "grpo",
        ["model=tiny", "debug=smoke", "evaluation.tasks=0", "trainer.max_steps=3", "trainer.save_steps=1",
         "trainer.learning_rate=0.05", "trainer.keep_checkpoints=9", f"run.dir={folder}", *overrides],
    )  # fmt: skip


def state(folder, step):
    return torch.load(folder / "checkpoints" / f"step-{step:06d}" / "rlpost.pt", weights_only=True)["extra"]


def test_the_reference_is_the_moving_average_of_the_policies_of_the_run(tmp_path):
    """A step begins with the move that its number asks for: r3 = .75 r2 + .25 w2, w2 the policy of checkpoint 2."""
    run(tmp_path, *MOVING)
    start = state(tmp_path, 1)["reference"]
    assert start == [], "at checkpoint 1 no step has begun with a changed policy"
    policy = load_file(tmp_path / "checkpoints" / "step-000002" / "model.safetensors")
    at_two, at_three = state(tmp_path, 2)["reference"], state(tmp_path, 3)["reference"]
    moved = 0
    for older, newer in zip(at_two, at_three, strict=True):
        same = [w for w in policy.values() if w.shape == older.shape]
        apart = min(float((newer - (0.75 * older + 0.25 * w.float())).abs().max()) for w in same)
        assert apart < 1e-6
        moved += not torch.equal(older, newer)
    assert moved == len(at_two) > 5


def test_an_adapter_has_no_reference_that_could_follow(tmp_path):
    with pytest.raises(ConfigError, match=r"peft=none"):
        run(tmp_path, *MOVING, "peft=lora")
