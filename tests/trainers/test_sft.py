"""SFT: the loss is the model's own, cuts and interruptions change nothing, TRL agrees, unusable rows are counted."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from rlpost import ledger, step
from rlpost.config import build, compose
from rlpost.errors import ConfigError, DataError
from rlpost.models.roles import start_from
from rlpost.run.folder import RunFolder
from rlpost.trainers import sft
from rlpost.types import TokenBatch
from tests.trainers.small import config, moved, plain_metrics, resumed, same, tasks, trained, trainer, weights


def own_loss(model, rows):
    """Sum of the model's own loss over the answers' tokens, divided by how many there are; one row at a time."""
    total, count = 0.0, 0
    for row in rows:
        tokens = row.answers[0].tokens
        ids = torch.tensor([row.prompt.ids + tokens])
        labels = torch.tensor([[-100] * len(row.prompt.ids) + tokens])
        total += float(model(input_ids=ids, labels=labels).loss) * len(tokens)
        count += len(tokens)
    return total / count


def test_nll_is_the_models_own_loss(tmp_path):
    found = trainer(config("sft"), tmp_path)
    (part,) = found.parts(found.rows)
    with found.measuring():
        loss, metrics = found.rows_loss(found.model, part)
        assert float(loss) == pytest.approx(own_loss(found.model, part.rows), abs=1e-6)
    assert float(metrics["logp"].total / metrics["logp"].count) == pytest.approx(-float(loss), abs=1e-6)


@pytest.mark.parametrize("recipe", ["sft", "dft", "asft"])
def test_loss_of_a_step_is_the_pure_step_on_naive_log_probabilities(tmp_path, recipe):
    cfg = config("sft", f"recipe={recipe}", "trainer.per_device_train_batch_size=3")
    found = trainer(cfg, tmp_path)
    frozen = build(cfg.tree["model"])().model
    with torch.no_grad():  # away from the reference, or its divergence would be 0
        for k, p in enumerate(found.model.parameters()):
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(k))
    (part,) = found.micro_batches(0)
    mine = found.rows_loss(found.model, part)[0].detach()
    total = 0.0
    for row in part.rows:
        ids = torch.tensor([row.prompt.ids + row.answers[0].tokens])
        t = len(row.answers[0].tokens)
        q, p = (m(input_ids=ids).logits[:, -t - 1 : -1].log_softmax(-1) for m in (found.model, frozen))
        logp = q.gather(-1, ids[:, -t:, None])[..., 0]
        batch = TokenBatch(
            tokens=ids[:, -t:], mask=torch.ones(1, t, dtype=torch.bool), logp=logp, old_logp=logp.detach(),
            advantage=None, group=torch.zeros(1).long(), ref_divergence=(p.exp() * (p - q)).sum(-1),
        )  # fmt: skip
        total += float(step.loss(batch, found.method, part.counts)[0].detach())
    assert float(mine) == pytest.approx(total, abs=1e-6)


def test_one_micro_batch_of_four_equals_two_of_two(tmp_path):
    one = trained(config("sft", "trainer.per_device_train_batch_size=4"), tmp_path / "a")
    two = trained(
        config("sft", "trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"), tmp_path / "b"
    )
    same(weights(one), weights(two), 1e-6)
    assert moved(weights(one), weights(trainer(config("sft"), tmp_path / "c")))
    losses = [[record["loss"] for record in plain_metrics(found)] for found in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_resumed_run_is_bit_equal(tmp_path):
    # three tasks a step of eight: step 2 crosses into the second epoch
    whole, half = resumed("sft", tmp_path, "trainer.per_device_train_batch_size=3")
    same(weights(whole), weights(half))
    assert plain_metrics(whole) == plain_metrics(half)
    assert [record["step"] for record in plain_metrics(half)] == [1, 2, 3, 4]


def test_the_steps_of_an_epoch_see_all_tasks(tmp_path):
    found = trainer(config("sft", "trainer.per_device_train_batch_size=2"), tmp_path)
    prompts = [tuple(row.prompt.ids) for step in range(4) for part in found.micro_batches(step) for row in part.rows]
    assert len(set(prompts)) == 8


def test_other_data_is_refused_on_resume(tmp_path):
    found = trainer(config("sft"), tmp_path)
    with pytest.raises(ConfigError, match="7 tasks and 8 of them a step, this run has 8 and 8"):
        found.load_extra_state({"tasks": 7, "per_step": 8})


def test_trl_takes_the_same_steps(tmp_path):
    cfg = config("sft", "trainer.per_device_train_batch_size=8")
    mine = trained(cfg, tmp_path / "mine")
    bundle = build(cfg.tree["model"])()
    rows = mine.rows.rows(range(8))
    columns = {
        "input_ids": [row.prompt.ids + row.answers[0].tokens for row in rows],
        "labels": [[-100] * len(row.prompt.ids) + row.answers[0].tokens for row in rows],
    }
    args = SFTConfig(
        output_dir=str(tmp_path / "trl"), max_steps=2, per_device_train_batch_size=8, learning_rate=0.01, optim="sgd",
        lr_scheduler_type="constant", bf16=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        activation_checkpointing=False, logging_steps=1, dataset_kwargs={"skip_prepare_dataset": True}, seed=0,
        max_grad_norm=1000.0, weight_decay=0.0,
    )  # fmt: skip
    stock = SFTTrainer(
        model=bundle.model, args=args, train_dataset=Dataset.from_dict(columns),
        processing_class=bundle.encoder.tokenizer,
    )  # fmt: skip
    stock.train()
    same(weights(mine), weights(stock), 1e-6)


def test_lora_moves_the_adapter_alone(tmp_path):
    cfg = config("sft", "peft=lora")
    before = weights(trainer(cfg, tmp_path / "a"))
    after = weights(trained(cfg, tmp_path / "b"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("lora_" in name for name in changed)


def test_unusable_rows_are_counted_by_cause_and_nothing_is_cut(tmp_path):
    ledger.reset()
    some = tasks()
    some[2] = replace(some[2], demonstration=None)
    some[5] = replace(some[5], demonstration="very " * 60 + "long")
    cfg = config("sft", "trainer.max_length=200", "trainer.max_steps=1", "trainer.per_device_train_batch_size=7")
    found = trainer(cfg, tmp_path, some)
    (part,) = found.micro_batches(0)
    assert part.counts.rows == len(part.rows) == 6
    assert {(r["cause"], r["count"], *r["where"]) for r in ledger.current().rows()} == {
        ("no demonstration", 1, "t2"),
        ("longer than trainer.max_length=200 tokens", 1, "t5"),
    }
    with pytest.raises(DataError, match=r"(?s)2 of 8 rows.*max_length=20 tokens"):
        trainer(config("sft", "trainer.max_length=20"), tmp_path / "b", tasks()).micro_batches(0)
    with pytest.raises(DataError, match="none of the 8 tasks has a demonstration"):
        trainer(cfg, tmp_path / "c", [replace(task, demonstration=None) for task in some])


def test_the_verb_trains_measures_and_saves(tmp_path):
    cfg = compose("sft", ["model=tiny", "debug=smoke", f"run.dir={tmp_path / 'run'}", "evaluation.tasks=3"])
    folder = RunFolder.create(cfg)
    result = sft.run(cfg, folder)
    assert result["steps"] == 2 and set(result["held_out"]) == {"metric", "tasks", "before", "after", "gain"}
    assert result["objective"] == -result["table"]["held-out loss after"]
    bundle = build(cfg.tree["model"])()
    loaded = start_from(build(cfg.tree["model"])(), folder.model).model
    assert moved(dict(loaded.named_parameters()), dict(bundle.model.named_parameters()))


def test_the_time_limit_and_the_number_of_checkpoints_are_met(tmp_path):
    """One step is over after no minutes; three steps that are all saved leave the one asked for."""
    words = ["model=tiny", "debug=smoke", "evaluation.tasks=2", "trainer.max_steps=3", "trainer.save_steps=1"]
    cfg = compose("sft", [*words, "trainer.max_minutes=0.0", f"run.dir={tmp_path / 'late'}"])
    assert sft.run(cfg, RunFolder.create(cfg))["steps"] == 1
    cfg = compose("sft", [*words, "trainer.keep_checkpoints=1", f"run.dir={tmp_path / 'kept'}"])
    folder = RunFolder.create(cfg)
    assert sft.run(cfg, folder)["steps"] == 3
    assert [place.name for place in folder.checkpoints.iterdir()] == ["step-000003"]
