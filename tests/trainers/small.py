"""Small supervised runs on model=tiny: uneven tasks, trainers built without a command line, weights to compare."""

import shutil
from pathlib import Path

import torch

from rlpost.config import build, compose
from rlpost.models.roles import with_adapter
from rlpost.models.scalar import score_adapter, with_score_head
from rlpost.run import checkpoint
from rlpost.run.folder import RunFolder
from rlpost.trainers import dpo, reward, sft
from rlpost.types import Task

ANSWERS = ["4", "it is 17", "seven", "I think that it is 12", "9 9", "no", "100 or so", "it may well be 3"]
REJECTED = ["5, or perhaps 6", "71", "I do not know", "21", "99 and then some more", "yes", "10", "8"]
VERBS = {"sft": (sft, sft.Sft), "dpo": (dpo, dpo.Dpo), "reward": (reward, reward.RewardModel)}


def tasks(n=8):
    """Prompts and answers of uneven length, each with a demonstration and a pair."""
    return [
        Task(
            id=f"t{i}",
            prompt=({"role": "user", "content": f"{'Please: ' * (i % 3)}what is {i} + {i * i}?"},),
            demonstration=ANSWERS[i],
            columns={"chosen": ANSWERS[i], "rejected": REJECTED[i], "margin": 0.1 * i},
        )
        for i in range(n)
    ]


def config(verb, *overrides):
    """Two steps of plain SGD, so that equal gradients mean equal weights."""
    plain = ["model=tiny", "trainer.optim=sgd", "trainer.learning_rate=0.01", "trainer.max_steps=2"]
    # Clipping would hide a wrong scale of the gradient.
    cfg = compose(verb, [*plain, "trainer.max_grad_norm=1000.0", *overrides])
    assert not cfg.faults, cfg.faults
    return cfg


def trainer(cfg, place, some=None, *, bundle=None):
    """The trainer of a verb with its run folder, ready to train."""
    module, kind = VERBS[cfg.command]
    some = tasks() if some is None else some
    bundle = bundle or build(cfg.tree["model"])()
    if cfg.command == "reward":
        bundle.model = with_score_head(bundle, seed=cfg.tree["seed"])
    peft = cfg.tree.get("peft")
    bundle.model = with_adapter(bundle.model, score_adapter(peft) if cfg.command == "reward" else peft)
    folder = RunFolder(Path(place), cfg)
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    found = kind(bundle, cfg, module.arguments(cfg, folder, len(some)), some)
    found.attach(folder)
    return found


def trained(cfg, place, some=None, *, resume=None):
    """The trainer after `train_or_stop`."""
    found = trainer(cfg, place, some)
    found.train_or_stop(resume)
    return found


def weights(found):
    """Every parameter by name, detached."""
    return {name: p.detach().clone() for name, p in found.model.named_parameters()}


def same(a, b, tolerance=0.0):
    """Assert that two models have equal parameters, and that they are not empty."""
    assert a.keys() == b.keys() and a
    worst = max(float((a[name] - b[name]).abs().max()) for name in a)
    assert worst <= tolerance, worst


def moved(a, b):
    """Whether any parameter differs."""
    return any(not torch.equal(a[name], b[name]) for name in a)


def resumed(verb, tmp_path, *overrides):
    """A run of four steps, and the same run continued from its checkpoint at step 2 as if it had stopped there."""
    cfg = config(verb, "trainer.max_steps=4", "trainer.save_steps=2", "trainer.optim=adamw_torch", *overrides)
    whole = trained(cfg, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step-000004")
    half = trained(cfg, tmp_path / "half", resume=str(checkpoint.newest(tmp_path / "half" / "checkpoints")))
    return whole, half


def plain_metrics(found):
    """The logged records without anything that is a time."""
    return [
        {name: value for name, value in record.items() if not name.startswith("time") and "runtime" not in name}
        for record in found.folder.metrics()
        if "loss" in record
    ]
