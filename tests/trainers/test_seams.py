"""Names and signatures of transformers and TRL that rlpost overrides or calls: a release that moves one is seen."""

import inspect

import pytest
import transformers
import trl
from transformers import Trainer
from trl import DPOTrainer, GRPOTrainer, RewardTrainer, SFTTrainer

from rlpost.trainers.grpo import Grpo
from rlpost.trainers.seams import OwnStep

SIGNATURES = {
    "get_train_dataloader": ["self"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "_prepare_inputs": ["self", "inputs"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "_get_num_items_in_batch": ["self", "batch_samples", "device"],
    "floating_point_ops": ["self", "inputs"],
    "log": ["self", "logs", "start_time"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_get_output_dir": ["self", "trial"],
    "_load_rng_state": ["self", "checkpoint"],
    "_finalize_training": ["self", "trial", "num_train_samples", "start_time"],
}


def test_pinned_releases():
    assert trl.__version__ == "1.16.0"
    assert transformers.__version__.startswith("5.23.")


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_overridden_methods_keep_their_signature(name):
    assert list(inspect.signature(getattr(Trainer, name)).parameters) == SIGNATURES[name]
    assert name in vars(OwnStep)


def test_every_override_is_pinned():
    private = {
        n for n in vars(OwnStep) if callable(vars(OwnStep)[n]) and hasattr(Trainer, n) and not n.startswith("__")
    }
    assert private == set(SIGNATURES)


@pytest.mark.parametrize("trainer", [GRPOTrainer, SFTTrainer, DPOTrainer, RewardTrainer])
def test_trl_trainers_are_transformers_trainers(trainer):
    assert issubclass(trainer, Trainer)


@pytest.mark.parametrize("name", ["training_step", "_prepare_inputs", "compute_loss", "log", "_save_checkpoint"])
def test_own_step_comes_before_trl(name):
    assert getattr(Grpo, name) is vars(OwnStep)[name]


def test_loss_is_scaled_once():
    assert Grpo.loss_is_scaled_for_ga is True
    source = inspect.getsource(Trainer.training_step)
    assert "loss_is_scaled_for_ga" in source
    assert "_tr_loss" in inspect.getsource(Trainer._inner_training_loop)
