"""Rollouts that learn from the task's demonstration: whole where the policy fails, or as a beginning to continue."""

import math
from collections.abc import Sequence
from typing import Literal

from rlpost.errors import ConfigError
from rlpost.rollout.context import Context
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task


def hpt(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    mode: Literal["switch", "off_policy", "soft"] = "switch",
    gate: int = 0,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """A group of completions of each task, and its demonstration instead where too few of them succeed.

    Equation:
        y_1 .. y_G ~ pi(. | x);  P = number of them with r >= threshold
        switch:     P <= gate: y_1 .. y_G do not train, and the demonstration joins with role and source "expert"
        off_policy: P <= gate: the demonstration joins as a completion with reward 1, beside the others
        soft:       the demonstration joins every group; token_weight solved_share says how much each side counts
        else the group is that of rollout sample

    Reduces to:
        rollout sample when gate is -1.

    Edge cases:
        r is the reward that `reward` names, the weighted total where it names none. The completions of a failed group
        stay for metrics and curriculum; keep trained_rows takes them out of the loss. But for off_policy no reward
        applies to the demonstration, so its advantage is 0: regularizer expert_nll teaches it. Off policy it has 1 in
        the reward that is named, or in the only one, and None in others; objective critique_grpo shapes its
        probability. A task without a demonstration, and one to whose completions no reward applies, is left to
        reinforcement.

    Paper:
        Towards a Unified View of Large Language Model Post-Training (HPT), arXiv 2509.04419; gate 0, G 8.
    """
    if mode == "off_policy" and not reward and len(ctx.stack.names) > 1:
        raise ConfigError(
            f"rollout.mode=off_policy: a demonstration earns 1 in one reward; name it in rollout.reward, one of "
            f"{', '.join(ctx.stack.names)}"
        )
    earned = reward or next(iter(ctx.stack.names), "")
    n = ctx.num_generations
    rows = ctx.generate(tasks, n)
    totals = ctx.totals(rows, reward=reward)
    demonstrations = []
    for i, task in enumerate(tasks):
        group, scores = rows[i * n : (i + 1) * n], totals[i * n : (i + 1) * n]
        if not task.demonstration or all(math.isnan(score) for score in scores):
            continue
        if mode == "soft" or sum(score >= threshold for score in scores) <= gate:
            shown = ctx.expert(task, group[0].group)
            if mode == "off_policy":
                shown.scores[earned] = 1.0
            for row in group if mode == "switch" else []:
                row.trains = [False] * len(row.tokens)
            demonstrations.append(shown)
    return rows + demonstrations


def prefix_rft(tasks: Sequence[Task], ctx: Context, *, high: float = 0.95, low_min: float = 0.0) -> list[Rollout]:
    """G - 1 completions of each task, and one that continues the beginning of its demonstration.

    Equation:
        y_1 .. y_(G-1) ~ pi(. | x);  y_G = (d_1 .. d_L, z) with z ~ pi(. | x, d_1 .. d_L)
        L = floor(l * |d|) <= |d| - 1, l ~ Uniform(low, high)
        low = low_min + (high - low_min) * (1 + cos(pi * progress)) / 2

    Reduces to:
        rollout sample at high 0.

    Edge cases:
        |d| counts the demonstration without its stop token. The beginning trains as part of the row (source "expert");
        token_weight expert_entropy picks what of it does. A row with a beginning has the role "hybrid", so that metrics
        and curriculum see the policy's own; with L = 0, or without a demonstration, it is an ordinary one. One
        completion per task leaves no group and is refused. max_tokens bounds what is written after the beginning.

    Paper:
        Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling, arXiv 2507.01679.
        Assumed: high 0.95 and low_min 0, which the sources at hand do not state.
    """
    if not 0 <= low_min <= high <= 1:
        raise ConfigError(f"rollout prefix_rft needs 0 <= low_min <= high <= 1; they are {low_min} and {high}")
    groups = _groups(tasks, ctx, "prefix_rft")
    rows = ctx.generate(tasks, ctx.num_generations - 1, group=groups)
    low = low_min + (high - low_min) * (1 + math.cos(math.pi * ctx.progress)) / 2
    starts = []
    for task in tasks:
        tokens = ctx.demonstration(task)
        length = min(math.floor(ctx.rng.uniform(low, high) * len(tokens)), len(tokens) - 1)
        starts.append(Start.given(tokens[: max(length, 0)], "expert", trains=True))
    last = ctx.generate(tasks, 1, group=groups, prefixes=starts)
    for row, start in zip(last, starts, strict=True):
        row.fork, row.role = len(start.tokens), "hybrid" if start.tokens else "policy"
    return rows + last


def dr_po(tasks: Sequence[Task], ctx: Context, *, share: float = 1.0) -> list[Rollout]:
    """A group of completions that all start from one place of the demonstration: a reset to a state of the dataset.

    Equation:
        with probability share: h ~ Uniform{1 .. |d| - 1}, y_i = (d_1 .. d_h, z_i) with z_i ~ pi(. | x, d_1 .. d_h)
        else: y_i ~ pi(. | x)

    Gradient:
        The forced tokens do not train; rewards see the whole text.

    Reduces to:
        rollout sample at share 0.

    Edge cases:
        All completions of a task share h, so that a group would compare continuations of one state. A demonstration of
        fewer than 2 tokens, its stop token apart, is no place to reset to, and the task is sampled from its prompt.
        Groups that were reset have the role "reset", so that metrics and curriculum see none of them as the policy's.
        max_tokens bounds what is written after the reset.

    Paper:
        Dataset Reset Policy Optimization for RLHF, arXiv 2404.08495; share 1 is its code for TL;DR.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"rollout dr_po has share={share}; it is a probability, choose 0 to 1")
    starts = []
    for task in tasks:
        tokens = ctx.demonstration(task)
        reset = len(tokens) > 1 and ctx.rng.random() < share
        starts.append(Start.given(tokens[: ctx.rng.randint(1, len(tokens) - 1)] if reset else [], "expert"))
    rows = ctx.generate(tasks, ctx.num_generations, prefixes=starts)
    for i, row in enumerate(rows):
        row.fork = len(starts[i // ctx.num_generations].tokens)
        row.role = "reset" if row.fork else "policy"
    return rows


def _groups(tasks: Sequence[Task], ctx: Context, name: str) -> list[str]:
    if ctx.num_generations < 2:
        raise ConfigError(
            f"rollout {name} has rollout.num_generations={ctx.num_generations}, one of which is not a plain sample; "
            "set 2 or more"
        )
    return ctx.new_groups(len(tasks))
