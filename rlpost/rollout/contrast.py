"""Ordered completions beside completions on changed frames: what does the policy gain from the order of a video?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from rlpost.media.change import named
from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task


def contrast(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    change: Literal["shuffle", "reverse", "drop", "blank"] = "shuffle",
    share: float = 0.5,
) -> list[Rollout]:
    """T-GRPO's rollout: G completions of each task, and a contrast arm on changed frames that is not trained on.

    Equation:
        y_1 .. y_G ~ pi(. | frames, x)  with role "policy"
        z_1 .. z_H ~ pi(. | change(frames), x)  with role "contrast", H = floor(G * share)
    Reduces to:
        rollout sample when share is 0.
    Edge cases:
        A task without a video has no contrast arm (the published code generates one dummy token instead). All videos of
        a task are changed, each with a draw of its own; a shuffle may by chance be the identity, as published.
        Rows of the contrast arm carry their own prompt: its visual tensors are those of the changed frames.

    Paper:
        Video-R1, arXiv 2503.21776: shuffle, share 0.5. The other changes are this project's.
    """
    groups = ctx.new_groups(len(tasks))
    rows = ctx.generate(tasks, ctx.num_generations, group=groups)
    arms = [(_changed(task, change, ctx), name) for task, name in zip(tasks, groups, strict=True) if _has_video(task)]
    beside = ctx.generate(
        [task for task, _ in arms],
        int(ctx.num_generations * share),
        group=[name for _, name in arms],
        role="contrast",
        trains=False,
    )
    return rows + beside


def _has_video(task: Task) -> bool:
    return any(medium.kind == "video" for medium in task.media)


def _changed(task: Task, change: str, ctx: Context) -> Task:
    """The task with its videos marked; the media encoder applies the mark after decoding."""
    media = tuple(
        replace(medium, change=named(change, ctx.rng.getrandbits(31))) if medium.kind == "video" else medium
        for medium in task.media
    )
    return replace(task, media=media)
