"""H6, H8 and H10 on a GPU: a prompt or a video once for its group, in training and in generation.

Updates are functions of a model, sizes and a clock, and run on a CPU at a tiny size; with the sizes and the clock of a
GPU nothing here has been run yet.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rlpost.likelihood.scoring import teach
from rlpost.models.encode import Bundle
from scripts.bench import cuda, generation, large, models, sharing
from scripts.bench.record import Case, Run, Times, apart, gradients, largest

ANSWER = 256
# Rows of the forms without sharing that run at a time; eight rows of 8192 tokens are far past what fills a GPU.
MICRO = (1, 2, 4)
# bfloat16 through 36 layers: C6 and C7 compare in float32 and float64.
BOUND = 0.1
# Steps, rows and columns of patches: 32 frames of 896 by 448 pixels, 8192 visual tokens.
GRID = (16, 64, 32)

Clock = Callable[[Mapping[str, Run], int], Times]


def text(repeats: int) -> list[Case]:
    """H6: update step of a group against the fastest micro-batches without sharing; activations are recomputed."""
    bundle = prepared(large.qwen3_4b())
    cases = []
    for length in (4096, 8192):
        limit = sharing.bound(bundle.model.config, length, ANSWER, sharing.MEMBERS)
        group = sharing.group_of(bundle, length, answer=ANSWER)
        cases.append(update(bundle, group, f"P={length}", (0.85 * limit, 0.95 * limit), cuda.race, repeats))
    return cases


def video(repeats: int) -> list[Case]:
    """H8: the same on a video. Without sharing it is encoded for every completion, as TRL does with images.

    TRL 1.16 has no video in GRPO, so what is held against is our own form of one row per completion.
    """
    bundle = prepared(large.qwen2_5_vl_3b())
    case = update(bundle, clip_group(bundle, GRID), "Qwen2.5-VL-3B", (4.5, 6.0), cuda.race, repeats)
    # The tower's windows are hundreds of calls per layer, which sharing makes once and the other side for every row.
    return [replace(case, note=f"{case.note}; under sdpa transformers runs the tower's windows one by one, in both")]


def prepared(bundle: Bundle) -> Bundle:
    """A model that scores and keeps no activations between the passes."""
    teach(bundle.model)
    bundle.model.train().activation_checkpointing_enable({"use_reentrant": False})
    return bundle


def clip_group(bundle: Bundle, grid: tuple[int, int, int], *, words: int = 128, **size: int) -> sharing.Group:
    """A video of `grid` patches in a prompt with `words` other tokens, and the completions of its group."""
    merged = bundle.model.config.vision_config.spatial_merge_size**2
    length = grid[0] * grid[1] * grid[2] // merged + words
    return sharing.group_of(bundle, length, **{"answer": ANSWER, **size}, grid=grid, kind="video")


def disagreement(bundle: Bundle, group: sharing.Group, micro: int) -> float:
    """Log-probabilities and all gradients of the shared row against rows of their own, relative to the largest."""
    wanted, slopes = sharing.naive_step(bundle, group, micro), gradients(bundle.model)
    found = sharing.shared_step(bundle, group)
    return largest(apart({"": found}, {"": wanted}), apart(gradients(bundle.model), slopes))


def update(
    bundle: Bundle,
    group: sharing.Group,
    name: str,
    goal: tuple[float, float],
    clock: Clock,
    repeats: int,
    micro: tuple[int, ...] = MICRO,
) -> Case:
    """Forward and backward of a group with its prompt once, against the fastest of `micro` rows at a time without."""
    error = disagreement(bundle, group, micro[0])
    runs: dict[str, Run] = {f"{m} rows": lambda m=m: sharing.naive_step(bundle, group, m) for m in micro}
    times = clock({"ours": lambda: sharing.shared_step(bundle, group), **runs}, repeats)
    best = min(runs, key=lambda one: times.ms[one])
    members, answer = group.weight.shape
    note = (
        f"P={len(group.prompt.ids)} C={answer} G={members} {_dtype(bundle)}; fastest without sharing: {best} at a time"
    )
    return Case(name, error, BOUND, *goal, times.ms["ours"], times.ms[best], times.spread, note)


def _dtype(bundle: Bundle) -> str:
    return str(bundle.model.dtype).removeprefix("torch.")


def generated(repeats: int) -> list[Case]:
    """H10: a group from one prefill against the prompt repeated. That greedy tokens agree is shown, not demanded."""
    bundle = large.qwen3_4b()
    bundle.model.eval()
    prompt = models.prompt(bundle, 8192)
    size: dict[str, Any] = {"answer": ANSWER}
    apart_by = generation.differing(
        generation.ours(bundle, prompt, 0.0, **size), generation.theirs(bundle, prompt, 0.0, **size)
    )
    runs: dict[str, Run] = {
        "ours": lambda: generation.ours(bundle, prompt, 1.0, **size),
        "theirs": lambda: generation.theirs(bundle, prompt, 1.0, **size),
    }
    times = cuda.race(runs, repeats)
    note = (
        f"{apart_by:.1%} of greedy tokens differ: near ties fall either way in bfloat16, C8 compares in float64; "
        "the stretch, transformers' continuous batching with forks, is not measured"
    )
    ms = times.ms
    return [Case("P=8192 C=256 G=8", apart_by, 1.0, 3.0, 3.0, ms["ours"], ms["theirs"], times.spread, note)]
