"""Video-R1, as measured: what the temporal bonus does to the advantage, against the same recipe without it."""

import math

import pytest
import torch

from rlpost.config import compose
from rlpost.step import score
from tests import toy

G, GROUPS = 8, 40
NAMES = ("multiple_choice", "numerical", "ocr", "free_form", "regression", "think_answer_format")
SEEDS = range(5)


def method(*overrides: str):
    return toy.recipe("video_r1", *overrides)


def step_of(accuracy: torch.Tensor, contrast: torch.Tensor, fmt: torch.Tensor, column: str):
    """`GROUPS` groups of G ordered and G/2 contrast rows with the given accuracies, as one scored step."""
    rows = torch.cat([accuracy, contrast], 1).flatten()
    rewards = torch.full((len(rows), len(NAMES)), math.nan)
    rewards[:, NAMES.index(column)] = rows
    rewards[:, -1] = fmt
    n, each = len(rows), accuracy.shape[1] + contrast.shape[1]
    role = (("policy",) * accuracy.shape[1] + ("contrast",) * contrast.shape[1]) * len(accuracy)
    mask = torch.ones(n, 3, dtype=torch.bool)
    return toy.scored(
        rewards,
        torch.arange(n) // each,
        mask,
        torch.zeros(n, 3),
        reward_names=NAMES,
        role=role,
        length=mask.sum(1) * 100,
    )


def advantages(table, *overrides: str) -> torch.Tensor:
    return score(table, method(*overrides)).scored.advantage[:, 0].reshape(-1, G)


def changed(table) -> torch.Tensor:
    """Which groups have another advantage with the bonus than without it."""
    gap = advantages(table) - advantages(table, "shaping.temporal_bonus.bonus=0.0")
    return gap.abs().amax(1) > 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bonus_hardly_moves_groups_of_right_and_wrong_answers(seed):
    """With a format that all rows keep, rewards (1, 0) and (1.3, 0) have the same z-scores: no group changes at all."""
    draw = torch.Generator().manual_seed(seed)
    ability = torch.rand(GROUPS, 1, generator=draw)
    accuracy = (torch.rand(GROUPS, G, generator=draw) < ability).float()
    shuffled = (torch.rand(GROUPS, G // 2, generator=draw) < 0.6 * ability).float()
    table = step_of(accuracy, shuffled, torch.ones(GROUPS * (G + G // 2)), "multiple_choice")
    assert not changed(table).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bonus_moves_groups_with_partial_credit(seed):
    """OCR, free form and regression give partial credit; there the bonus lifts all that are above 0.1 over the rest."""
    draw = torch.Generator().manual_seed(seed)
    accuracy = torch.rand(GROUPS, G, generator=draw) ** 2
    shuffled = 0.6 * torch.rand(GROUPS, G // 2, generator=draw) ** 2
    table = step_of(accuracy, shuffled, torch.ones(GROUPS * (G + G // 2)), "regression")
    assert changed(table).float().mean() > 0.3


def test_it_goes_to_groups_that_need_the_order():
    """Group 0 does better on ordered frames, group 1 on shuffled ones: only the first is paid."""
    accuracy = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]])
    shuffled = torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    table = step_of(accuracy, shuffled, torch.ones(24), "numerical")
    shaped = score(table, method()).shaped[:, NAMES.index("numerical")].reshape(2, -1)[:, :G]
    torch.testing.assert_close(shaped - accuracy, torch.tensor([[0.3], [0.0]]) * accuracy)


def test_the_full_scale_is_the_papers():
    """Video-R1's published numbers, from its paper, its code and its training scripts."""
    tree = compose(
        "grpo",
        [
            "recipe=video_r1",
            "model=qwen2_5_vl_7b",
            "dataset=video_r1_260k",
            "trainer=video_r1",
            "launch=accelerate_zero3",
            "rollout.engine=vllm",
        ],
    ).tree
    trainer, rollout, model = tree["trainer"], tree["rollout"], tree["model"]
    wanted = {"learning_rate": 1e-6, "lr_scheduler_type": "cosine", "weight_decay": 0.01, "max_grad_norm": 5.0}
    wanted |= {"bf16": True, "max_steps": 1200, "save_steps": 100, "gradient_accumulation_steps": 1}
    assert {name: trainer[name] for name in wanted} == wanted
    assert trainer["per_device_train_batch_size"] == rollout["num_generations"] == 8, "one prompt per process"
    sampling = {
        "max_tokens": 768,
        "temperature": 1.0,
        "top_p": 0.95,
        "change": "shuffle",
        "share": 0.5,
        "engine": "vllm",
    }
    assert {name: rollout[name] for name in sampling} == sampling
    assert (model["fps"], model["min_frames"], model["max_frames"]) == (2.0, 4, 16)
    assert model["frame_min_pixels"] == model["frame_max_pixels"] == 128 * 28 * 28
    assert model["image_max_pixels"] == 256 * 28 * 28 and model["path"] == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert tree["regularizer"]["kl_k3_clamped"] | {"_target_": ""} == {"_target_": "", "coef": 0.04, "clamp": 10.0}
    assert tree["shaping"]["temporal_bonus"]["mu"] == 1.0 and tree["shaping"]["temporal_bonus"]["bonus"] == 0.3
    length = tree["shaping"]["length_bonus"]
    assert (length["bonus"], length["shortest"], length["longest"]) == (0.2, 320, 512)
    assert list(tree["shaping"]) == ["temporal_bonus", "length_bonus"], "the length bonus must not raise p"
    kinds = {name: node.get("when", {}).get("problem_type") for name, node in tree["reward"].items()}
    assert kinds == dict(
        zip(NAMES, ["multiple choice", "numerical", "OCR", "free-form", "regression", None], strict=True)
    )
    assert all(node["weight"] == 1.0 for node in tree["reward"].values())
    assert tree["advantage"]["_target_"].endswith("group_zscore") and tree["advantage"]["epsilon"] == 1e-4
    assert tree["aggregate"]["_target_"].endswith("row_mean")


def test_the_codes_mu_is_an_option():
    tree = compose("grpo", ["recipe=video_r1", "shaping@shaping.temporal_bonus=temporal_bonus_code"]).tree
    assert tree["shaping"]["temporal_bonus"]["mu"] == 0.8
