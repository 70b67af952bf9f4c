"""A teacher in the GRPO step: what reaches the loss, on micro-batches and through a checkpoint."""

import torch

from rlpost.models import tiny
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
