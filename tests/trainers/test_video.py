"""Supervised verbs on clips: the visual tokens reach the loss whole, for demonstrations and for pairs."""

from dataclasses import replace

import pytest
import torch

from rlpost.config import build, compose
from rlpost.models.positions import position_ids
from rlpost.run.folder import RunFolder
from rlpost.trainers import evaluate, sft
from tests.trainers.small import moved, plain_metrics, trained, trainer, weights

CLIPS = ["model=video_tiny", "dataset=clips", "dataset.train=6", "dataset.test=4", "dataset.kinds=[direction,first]"]
PLAIN = ["trainer.optim=sgd", "trainer.learning_rate=0.05", "trainer.max_steps=2"]


def clips(verb, *overrides):
    """A configuration on clips and its training tasks; a pair prefers the demonstration to a bare letter."""
    cfg = compose(verb, [*CLIPS, *PLAIN, *overrides])
    assert not cfg.faults, cfg.faults
    tasks = build(cfg.tree["dataset"])("train")
    pairs = [replace(t, columns={**t.columns, "chosen": t.demonstration, "rejected": "A"}) for t in tasks]
    return cfg, pairs


def test_nll_of_clips_is_the_models_own_loss(tmp_path):
    cfg, tasks = clips("sft", "trainer.per_device_train_batch_size=3")
    found = trainer(cfg, tmp_path, tasks)
    (part,) = found.micro_batches(0)
    total, count = 0.0, 0
    with found.measuring():
        loss = float(found.rows_loss(found.model, part)[0])
        for row in part.rows:
            assert sum(kind == 2 for kind in row.prompt.kinds) == int(row.prompt.features["video_grid_thw"].prod()) // 4
            tokens = row.answers[0].tokens
            inputs = found.encoder.collate([row.prompt], [tokens])
            labels = torch.tensor([[-100] * len(row.prompt.ids) + tokens])
            own = found.model(**inputs, position_ids=position_ids(found.model, inputs), labels=labels).loss
            total, count = total + float(own) * len(tokens), count + len(tokens)
    assert loss == pytest.approx(total / count, abs=2e-6)


@pytest.mark.parametrize("verb", ["sft", "dpo"])
def test_two_steps_on_clips_lower_the_loss_and_reach_the_vision_tower(tmp_path, verb):
    cfg, tasks = clips(verb, "trainer.per_device_train_batch_size=6")
    before = weights(trainer(cfg, tmp_path / "a", tasks))
    found = trained(cfg, tmp_path / "b", tasks)
    first, second = (record["loss"] for record in plain_metrics(found))
    assert second < first
    visual = {name for name in before if ".visual." in name}
    assert visual and moved({n: before[n] for n in visual}, {n: weights(found)[n] for n in visual})


def test_sft_and_eval_of_what_it_saved_run_on_clips(tmp_path):
    cfg = compose("sft", [*CLIPS, "debug=smoke", "evaluation.tasks=2", f"run.dir={tmp_path / 'sft'}"])
    folder = RunFolder.create(cfg)
    assert sft.run(cfg, folder)["held_out"]["after"].n == 2
    more = ["debug=smoke", f"init={folder.model}", "trainer.limit=2", f"run.dir={tmp_path / 'eval'}"]
    cfg = compose("eval", [*CLIPS, *more])
    assert evaluate.run(cfg, RunFolder.create(cfg))["tasks"] == 2
