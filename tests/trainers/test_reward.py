"""Reward model: the Bradley-Terry likelihood of its scores; cuts and interruptions change nothing; it loads again."""

import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rlpost.config import build, compose
from rlpost.errors import ModelError
from rlpost.models.scalar import with_score_head
from rlpost.run.folder import RunFolder
from rlpost.trainers import reward
from tests.trainers.small import config, moved, plain_metrics, resumed, same, tasks, trained, trainer, weights


def score(model, row, k):
    """The head on the trunk's state at the stop token, without padding and without the class's own pooling."""
    ids = torch.tensor([row.prompt.ids + row.answers[k].tokens])
    return float(model.score(model.base_model(input_ids=ids).last_hidden_state[0, -1]).detach())


@pytest.mark.parametrize("option", ["bradley_terry", "bradley_terry_margin"])
def test_loss_is_the_likelihood_of_the_preferences(tmp_path, option):
    found = trainer(config("reward", f"reward_model={option}", "trainer.per_device_train_batch_size=3"), tmp_path)
    (part,) = found.micro_batches(0)
    mine, metrics = found.rows_loss(found.model, part)
    expected, right = 0.0, 0
    for row in part.rows:
        gap = score(found.model, row, 0) - score(found.model, row, 1)
        right += gap > 0
        margin = row.margin if option == "bradley_terry_margin" else 0.0
        expected += math.log1p(math.exp(margin - gap)) / 3
    assert float(mine.detach()) == pytest.approx(expected, abs=1e-6)
    assert float(metrics["accuracy"].total / metrics["accuracy"].count) == pytest.approx(right / 3)


def test_one_micro_batch_of_four_equals_two_of_two(tmp_path):
    one = trained(config("reward", "trainer.per_device_train_batch_size=4"), tmp_path / "a")
    two = trained(
        config("reward", "trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"),
        tmp_path / "b",
    )
    same(weights(one), weights(two), 1e-6)
    assert moved(weights(one), weights(trainer(config("reward"), tmp_path / "c")))


def test_resumed_run_is_bit_equal(tmp_path):
    whole, half = resumed("reward", tmp_path, "trainer.per_device_train_batch_size=3")
    same(weights(whole), weights(half))
    assert plain_metrics(whole) == plain_metrics(half) and len(plain_metrics(half)) == 4


def test_the_trunk_is_the_policys_and_padding_is_no_stop_token(tmp_path):
    bundle = build(config("reward").tree["model"])()
    bundle.encoder.tokenizer.pad_token = bundle.encoder.tokenizer.eos_token
    model = with_score_head(bundle, seed=0)
    assert model.config.pad_token_id not in bundle.encoder.stop_ids
    trunk = bundle.model.base_model.state_dict()
    assert all(torch.equal(value, trunk[name]) for name, value in model.base_model.state_dict().items())
    with pytest.raises(ModelError, match="no variant that scores a sequence"):
        with_score_head(build(compose("sft", ["model=video_tiny"]).tree["model"])(), seed=0)


@pytest.mark.parametrize("peft", ["none", "lora"])
def test_the_verb_learns_and_what_it_saves_loads_with_the_same_scores(tmp_path, peft):
    overrides = ["model=tiny", "debug=smoke", "evaluation.tasks=3", f"peft={peft}", "trainer.learning_rate=0.01"]
    cfg = compose("reward", [*overrides, f"run.dir={tmp_path / 'run'}"])
    folder = RunFolder.create(cfg)
    result = reward.run(cfg, folder)
    assert result["held_out"]["metric"] == "pair accuracy" and result["held_out"]["after"].n == 3
    loaded = AutoModelForSequenceClassification.from_pretrained(folder.model)
    fresh = trainer(config("reward"), tmp_path / "fresh")
    rows = fresh.rows.rows(range(3))
    fresh.model = loaded
    scores = fresh._scores(loaded, rows).tolist()
    assert scores[:3] == pytest.approx([score(loaded, row, 0) for row in rows], abs=1e-6)
    before = with_score_head(build(cfg.tree["model"])(), seed=0)
    assert not torch.equal(before.score.weight, loaded.score.weight)


def test_pairs_are_learned(tmp_path):
    found = trained(
        config("reward", "trainer.learning_rate=0.05", "trainer.max_steps=30", "trainer.per_device_train_batch_size=8"),
        tmp_path,
    )
    records = plain_metrics(found)
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert len(tasks()) == 8 and records[-1]["accuracy"] >= 0.75
