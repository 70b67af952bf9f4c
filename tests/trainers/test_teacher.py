"""A teacher in the GRPO step: what reaches the loss, on micro-batches and through a checkpoint."""

import pytest
import torch

from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.models import tiny
from tests.trainers.test_ranks import apart, train
from tests.trainers.test_streams import trainer

TEACHER = [
    "scorer@models.teacher=own",
    "models.teacher.model={_target_: rlpost.models.tiny.text, seed: 7}",
    "regularizer=[teacher_k2]",
]


def test_the_batch_holds_what_the_teacher_says(tmp_path):
    made = trainer(tmp_path / "a", *TEACHER, "trainer.gradient_accumulation_steps=2")
    model = tiny.text(seed=7).model
    items = made.micro_batches(0)
    assert len(items) == 2
    for item in items:
        batch = made._batch(made.model, item)
        for i, rollout in enumerate(item.rollouts):
            ids, n = torch.tensor([rollout.prompt.ids + rollout.tokens]), len(rollout.tokens)
            wanted = torch.log_softmax(model(input_ids=ids).logits[0, -n - 1 : -1], -1).gather(-1, ids[0, -n:, None])
            torch.testing.assert_close(batch.teacher_logp[i, :n], wanted[:, 0].detach(), rtol=1e-4, atol=1e-5)


def test_neither_the_cut_nor_the_ranks_nor_a_restart_change_the_weights(tmp_path):
    common = [*TEACHER, "regularizer.teacher_k2.coef=1.0"]
    whole = train(tmp_path / "a", *common, "trainer.per_device_train_batch_size=16")
    assert apart(whole, train(tmp_path / "b", *common, "trainer.per_device_train_batch_size=8", ranks=2)) < 1e-6
    plain = train(tmp_path / "c", "trainer.per_device_train_batch_size=16")
    assert apart(whole, plain) > 1e-3


def test_what_is_missing_is_said_before_anything_is_loaded():
    check(compose("grpo", TEACHER))
    with pytest.raises(ConfigError, match="teacher_k2 reads 'teacher_logp', but there is no teacher: scorer@models"):
        check(compose("grpo", TEACHER[2:]))
    with pytest.raises(ConfigError, match=r"temperature 1; set rollout.temperature=1.0"):
        check(compose("grpo", [*TEACHER, "rollout.temperature=0.7"]))
    with pytest.raises(ConfigError, match="advantage reads 'teacher_logp', but there is no teacher"):
        check(compose("grpo", ["advantage=teacher_gain"]))
    with pytest.raises(ConfigError, match="does not provide"):
        check(compose("sft", ["regularizer=[teacher_k2]"]))
