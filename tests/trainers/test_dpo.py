"""DPO: log 2 at the start, the pure loss on naive log-probabilities, cuts and interruptions change nothing, as TRL."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from rlpost.batches import without
from rlpost.config import build, compose
from rlpost.errors import DataError
from rlpost.run.folder import RunFolder
from rlpost.trainers import dpo
from tests.trainers.small import config, moved, plain_metrics, resumed, same, tasks, trained, trainer, weights


def summed(model, row, k):
    """Log-probability of an answer, from the logits, one row at a time."""
    tokens = row.answers[k].tokens
    ids = torch.tensor([row.prompt.ids + tokens])
    logp = model(input_ids=ids).logits[0, -len(tokens) - 1 : -1].log_softmax(-1)
    return logp.gather(-1, ids[0, -len(tokens) :, None]).sum().detach()


def shifted(model):
    """The model moved away from its start, the same way every time."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(k))


@pytest.mark.parametrize("peft", ["none", "lora"])
def test_the_loss_starts_at_log_two(tmp_path, peft):
    found = trained(config("dpo", f"peft={peft}"), tmp_path)
    first, second = plain_metrics(found)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert second["loss"] < first["loss"] - 1e-4


@pytest.mark.parametrize(("recipe", "beta"), [("dpo", 0.1), ("ipo", 0.1), ("rpo", 0.01)])
def test_loss_is_the_formula_on_naive_log_probabilities(tmp_path, recipe, beta):
    cfg = config("dpo", f"recipe={recipe}", "trainer.per_device_train_batch_size=3")
    found = trainer(cfg, tmp_path)
    frozen = build(cfg.tree["model"])().model
    shifted(found.model)
    (part,) = found.micro_batches(0)
    mine, metrics = found.rows_loss(found.model, part)
    expected, right = 0.0, 0
    for row in part.rows:
        p, r = ([float(summed(m, row, k)) for k in (0, 1)] for m in (found.model, frozen))
        n = [len(answer.tokens) for answer in row.answers]
        gap = (p[0] - r[0]) - (p[1] - r[1])
        right += gap > 0
        if recipe == "ipo":
            value = ((p[0] - r[0]) / n[0] - (p[1] - r[1]) / n[1] - 1 / (2 * beta)) ** 2
        else:
            value = math.log1p(math.exp(-beta * gap)) - (0.005 * beta * p[0] if recipe == "rpo" else 0.0)
        expected += value / 3
    assert float(mine.detach()) == pytest.approx(expected, abs=2e-5 if recipe == "ipo" else 1e-6)
    if recipe == "dpo":
        assert float(metrics["accuracy"].total / metrics["accuracy"].count) == pytest.approx(right / 3)


def test_one_micro_batch_of_four_equals_two_of_two(tmp_path):
    one = trained(config("dpo", "trainer.per_device_train_batch_size=4"), tmp_path / "a")
    two = trained(
        config("dpo", "trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"), tmp_path / "b"
    )
    same(weights(one), weights(two), 1e-6)
    assert moved(weights(one), weights(trainer(config("dpo"), tmp_path / "c")))


def test_resumed_run_is_bit_equal(tmp_path):
    whole, half = resumed("dpo", tmp_path, "trainer.per_device_train_batch_size=3")
    same(weights(whole), weights(half))
    assert plain_metrics(whole) == plain_metrics(half) and len(plain_metrics(half)) == 4


def test_trl_takes_the_same_steps(tmp_path):
    cfg = config("dpo", "trainer.per_device_train_batch_size=8")
    mine = trained(cfg, tmp_path / "mine")
    bundle = build(cfg.tree["model"])()
    columns = {
        "prompt": [list(task.prompt) for task in tasks()],
        **{
            name: [[{"role": "assistant", "content": task.columns[name]}] for task in tasks()]
            for name in ("chosen", "rejected")
        },
    }
    args = DPOConfig(
        output_dir=str(tmp_path / "trl"), max_steps=2, per_device_train_batch_size=8, learning_rate=0.01, optim="sgd",
        lr_scheduler_type="constant", bf16=False, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        activation_checkpointing=False, logging_steps=1, seed=0, max_grad_norm=1000.0, weight_decay=0.0, beta=0.1,
    )  # fmt: skip
    stock = DPOTrainer(
        model=bundle.model, ref_model=copy.deepcopy(bundle.model), args=args, train_dataset=Dataset.from_dict(columns),
        processing_class=bundle.encoder.tokenizer,
    )  # fmt: skip
    stock.train()
    same(weights(mine), weights(stock), 1e-6)


def test_the_verb_trains_measures_and_saves(tmp_path):
    cfg = compose("dpo", ["model=tiny", "debug=smoke", f"run.dir={tmp_path / 'run'}", "evaluation.tasks=3"])
    folder = RunFolder.create(cfg)
    result = dpo.run(cfg, folder)
    assert result["steps"] == 2 and result["table"]["held-out loss before"] == pytest.approx(math.log(2), abs=1e-6)
    assert result["table"]["held-out pairs ranked right after"].n == 3
    assert (folder.model / "model.safetensors").is_file()


def test_numbers_of_a_pair_reach_the_loss_and_their_lack_is_a_sentence(tmp_path):
    """SPPO at its reference: half the squared targets, (win - 1/2) / beta, mean over the pairs of the step."""
    wins = [(0.8, 0.3), (0.7, 0.4)]
    pairs = [
        replace(one, columns={**one.columns, "chosen_win": w, "rejected_win": r})
        for one, (w, r) in zip(tasks(2), wins, strict=True)
    ]
    cfg = config("dpo", "preference=sppo", "preference.beta=1.0", "trainer.per_device_train_batch_size=2")
    found = trainer(cfg, tmp_path, pairs)
    loss, _ = found.rows_loss(found.model, found.micro_batches(0)[0])
    assert loss.item() == pytest.approx(0.5 * (0.3**2 + 0.2**2 + 0.2**2 + 0.1**2) / 2, rel=1e-5)
    assert without(pairs, found.facts) is None
    assert without(tasks(2), found.facts) == "task t0 has no column 'chosen_win'"
    with pytest.raises(DataError, match=r"no column 'chosen_win', which .*sppo reads; pick a build that gives it"):
        dpo.run(config("dpo", "preference=sppo", "evaluation.tasks=0"), RunFolder(tmp_path))
