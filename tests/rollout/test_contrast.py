"""The contrast arm: beside the ordered rows, in their group, on changed frames, and never trained on."""

import random
from collections import Counter
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from rlpost.config import compose
from rlpost.models.tiny_video import video_tiny
from rlpost.rollout.context import Context
from rlpost.rollout.contrast import contrast
from rlpost.rollout.engine import Completion, Sampling, sample
from rlpost.rows import scored
from rlpost.stack import RewardStack
from rlpost.step import score
from rlpost.types import Media, Task
from tests import toy


@pytest.fixture(scope="module")
def tiny():
    return video_tiny()


def task(name: str, *media: Media) -> Task:
    parts = [*({"type": m.kind} for m in media), {"type": "text", "text": "what is shown ?"}]
    return Task(name, [{"role": "user", "content": parts}], answer="A", media=media)


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 56, 56, 3)).astype(np.uint8)


VIDEO = task("video", Media("video", frames=frames(0), fps=4.0))
IMAGE = task("image", Media("image", frames=frames(1)[0]))
TEXT = task("text")


def context(tiny, generations: int = 4, seed: int = 0, asked: list | None = None) -> Context:
    def engine(prompts, n, how):
        if asked is not None:
            asked.extend([len(p.ids) for p in prompts] * n)
        return [Completion([7, 2], [-1.0, -0.5], "eos") for _ in prompts for _ in range(n)]

    return Context(engine, tiny.encoder, RewardStack({}), Sampling(), generations, random.Random(seed))


def test_half_as_many_rows_on_changed_frames(tiny):
    rows = contrast([VIDEO, TEXT, IMAGE], context(tiny, generations=5))
    found = Counter((r.task.id, r.role) for r in rows)
    assert found == {("video", "policy"): 5, ("text", "policy"): 5, ("image", "policy"): 5, ("video", "contrast"): 2}
    groups = {name: {r.group for r in rows if r.task.id == name} for name in ("video", "text", "image")}
    assert [len(g) for g in groups.values()] == [1, 1, 1] and len(set.union(*groups.values())) == 3
    assert all(all(r.trains) == (r.role == "policy") and any(r.trains) == (r.role == "policy") for r in rows)


def test_nothing_is_generated_for_tasks_without_a_video(tiny):
    asked: list[int] = []
    contrast([TEXT, IMAGE], context(tiny, asked=asked))
    assert len(asked) == 8


@pytest.mark.parametrize("change", get_args(get_type_hints(contrast)["change"]))
def test_the_arm_sees_other_pixels_but_the_same_prompt(tiny, change):
    rows = contrast([VIDEO], context(tiny), change=change)
    ordered, changed = (next(r for r in rows if r.role == role) for role in ("policy", "contrast"))
    assert ordered.prompt.ids == changed.prompt.ids
    for name in ("video_grid_thw", "second_per_grid_ts"):
        assert torch.equal(ordered.prompt.features[name], changed.prompt.features[name])
    pixels = [r.prompt.features["pixel_values_videos"] for r in (ordered, changed)]
    assert not torch.equal(*pixels)
    if change in ("shuffle", "reverse"):
        assert torch.equal(pixels[0].flatten().sort().values, pixels[1].flatten().sort().values)
    assert changed.task.media[0].change.startswith(change) and ordered.task.media[0].change == ""


def test_draws_differ_between_tasks_and_repeat_with_the_seed(tiny):
    def changes(seed: int) -> list[str]:
        rows = contrast([VIDEO, VIDEO, VIDEO], context(tiny, seed=seed))
        return [r.task.media[0].change for r in rows if r.role == "contrast"]

    assert changes(1) == changes(1) != changes(2)
    assert len(set(changes(1))) == 3


def test_share_zero_is_the_plain_rollout(tiny):
    rows = contrast([VIDEO, TEXT], context(tiny), share=0.0)
    assert {r.role for r in rows} == {"policy"} and len(rows) == 8


def test_changed_frames_reach_a_real_model(tiny):
    """Greedy completions of the random model depend on the frames: blank ones give other log-probabilities."""

    def engine(prompts, n, how):
        return sample(tiny.model, tiny.encoder, prompts, n, how, torch.Generator().manual_seed(0))

    ctx = Context(engine, tiny.encoder, RewardStack({}), Sampling(3, temperature=0.0), 2, random.Random(0))
    rows = contrast([VIDEO], ctx, change="blank")
    assert rows[0].gen_logp == pytest.approx(rows[1].gen_logp) != pytest.approx(rows[2].gen_logp)


def test_the_recipe_scores_the_arm_and_then_leaves_it_out(tiny):
    """p = 3/4 and q = 1/2: the three right answers earn 0.3; two rows of the contrast leave before the advantage."""
    method = toy.recipe("video_r1")
    names = tuple(compose("grpo", ["recipe=video_r1"]).tree["reward"])
    rows = contrast([VIDEO], context(tiny))
    right = {"policy": [1.0, 0.0, 1.0, 1.0], "contrast": [0.0, 1.0]}
    for role, values in right.items():
        for row, value in zip([r for r in rows if r.role == role], values, strict=True):
            row.scores = dict.fromkeys(names) | {"multiple_choice": value, "think_answer_format": 1.0}
    stack = RewardStack(dict.fromkeys(names))
    table = scored(rows, _weighted(stack, names), version=0)
    credit = score(table, method)
    assert credit.keep.tolist() == [True] * 4 + [False] * 2
    assert credit.shaped[:4, 0].tolist() == pytest.approx([1.3, 0.0, 1.3, 1.3])
    total = torch.tensor([2.3, 1.0, 2.3, 2.3])
    wanted = (total - total.mean()) / (total.std() + 1e-4)
    torch.testing.assert_close(credit.scored.advantage[:, 0], wanted, rtol=0, atol=1e-5)


def _weighted(stack: RewardStack, names: tuple[str, ...]) -> RewardStack:
    from rlpost.stack import Reward

    return RewardStack({name: Reward(lambda rollouts: [], 1.0) for name in names})
