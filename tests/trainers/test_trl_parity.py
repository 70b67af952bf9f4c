"""The GRPO step against TRL's own loss: same model, same rows, same advantages; loss and every parameter gradient."""

import copy

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from rlpost import rows, step
from rlpost.config import build, compose
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo

TRL = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    "cispo": {"loss_type": "cispo"},
    "bnpo": {"loss_type": "bnpo"},
}
ROWS, GROUP, LIMIT = 8, 4, 12


def ours(recipe: str, micro: int, folder, prefix: str = "off"):
    """Our trainer on scripted rollouts with perturbed old log-probabilities, so that ratios and clips differ."""
    cfg = compose(
        "grpo",
        [
            f"recipe={recipe}",
            "model=tiny",
            "reward=[]",
            f"run.dir={folder}",
            f"trainer.per_device_train_batch_size={ROWS // micro}",
            f"trainer.gradient_accumulation_steps={micro}",
            f"rollout.num_generations={GROUP}",
            f"rollout.max_tokens={LIMIT}",
            f"kernels.prefix={prefix}",
        ],
    )
    cfg.tree["rollout"]["_target_"] = "tests.trainers.scripted.collect"
    cfg.tree["reward"] = {"uneven": {"_target_": "tests.trainers.scripted.uneven"}}
    run = RunFolder.create(cfg)
    bundle = build(cfg.tree["model"])()
    tasks = build(cfg.tree["dataset"])("train")
    parts = grpo.Parts(cfg, tasks)
    trainer = grpo.Grpo(bundle, cfg, grpo._arguments(cfg, run, parts, len(tasks)), tasks, parts)
    trainer.attach(run)
    items = trainer._collect(0)[0]
    noise = torch.Generator().manual_seed(3)
    for item in items:
        logp, _ = trainer._logp(trainer.model, item)
        item.logps["old_logp"] = logp + 0.3 * torch.randn(logp.shape, generator=noise)
    return trainer, items, cfg


def theirs(trainer, items, recipe: str, cfg, folder):
    """TRL's trainer on a copy of the model, fed the same rows."""
    model = copy.deepcopy(trainer.model)
    for name in ("forward", "_rlpost_scores"):
        model.__dict__.pop(name, None)
    chosen = dict(TRL[recipe])
    if recipe == "cispo":
        chosen["epsilon_high"] = cfg.tree["objective"]["clip_high"]
    args = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=ROWS // len(items),
        gradient_accumulation_steps=len(items),
        num_generations=GROUP,
        max_completion_length=LIMIT,
        beta=0.0,
        bf16=False,
        use_cpu=True,
        report_to=[],
        activation_checkpointing=False,
        **chosen,
    )
    other = GRPOTrainer(
        model=model,
        args=args,
        reward_funcs=[lambda **_: []],
        train_dataset=Dataset.from_dict({"prompt": [""] * 8}),
        processing_class=trainer.encoder.tokenizer,
    )
    other.current_gradient_accumulation_steps = len(items)
    model.train()
    total = sum(int(item.scored.mask.sum()) for item in items)
    losses = []
    for item in items:
        batch = trainer.encoder.collate([r.prompt for r in item.rollouts], [r.tokens for r in item.rollouts])
        width = item.scored.mask.shape[1]
        loss = other._compute_loss(
            model,
            {
                "prompt_ids": batch["input_ids"][:, :-width],
                "prompt_mask": batch["attention_mask"][:, :-width],
                "completion_ids": batch["input_ids"][:, -width:],
                "completion_mask": batch["attention_mask"][:, -width:],
                "advantages": item.scored.advantage[:, 0],
                "old_per_token_logps": item.logps["old_logp"],
                "num_items_in_batch": torch.tensor(total),
            },
        )
        loss.backward()
        losses.append(float(loss.detach()))
    return sum(losses), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("prefix", ["off", "on"])
@pytest.mark.parametrize(
    ("recipe", "micro"),
    [(r, m) for r in ("grpo", "dr_grpo", "dapo", "gspo", "cispo") for m in (1, 2)] + [("bnpo", 1)],
)
def test_loss_and_gradients_equal_trl(recipe, micro, prefix, tmp_path):
    trainer, items, cfg = ours(recipe, micro, tmp_path / "run", prefix)
    expected, gradients = theirs(trainer, items, recipe, cfg, tmp_path / "trl")
    trainer.model.train()
    total = 0.0
    for item in items:
        loss, _ = trainer.micro_loss(trainer.model, item)
        loss.backward()
        total += float(loss.detach())
    assert expected != 0.0
    assert total == pytest.approx(expected, abs=1e-6)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=0)
    assert max(float(g.abs().max()) for g in gradients.values()) > 1e-4


def test_trainer_collects_scores_and_deals_whole_groups(tmp_path):
    trainer, items, _ = ours("grpo", 2, tmp_path / "run")
    assert [len(item.rollouts) for item in items] == [4, 4]
    for item in items:
        assert len({r.group for r in item.rollouts}) == 1
        assert item.counts.rows == ROWS and item.counts.tokens == sum(int(i.scored.mask.sum()) for i in items)
    table = rows.scored([r for item in items for r in item.rollouts], trainer.parts.stack)
    credit = step.score(table, trainer.parts.method)
    torch.testing.assert_close(credit.scored.advantage[:4].amax(1), items[0].scored.advantage.amax(1))


def test_max_steps_follow_from_epochs(tmp_path):
    cfg = compose("grpo", ["model=tiny", f"run.dir={tmp_path}/r", "trainer.max_steps=-1", "trainer.num_train_epochs=2"])
    parts = grpo.Parts(cfg, build(cfg.tree["dataset"])("train"))
    args = grpo._arguments(cfg, RunFolder.create(cfg), parts, 100)
    per_step = cfg.tree["trainer"]["per_device_train_batch_size"] // cfg.tree["rollout"]["num_generations"]
    assert args.max_steps == 2 * -(-100 // per_step)
