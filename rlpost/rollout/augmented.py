"""Rollouts that make a prompt easier or harder, as the policy's first completions of it were, and ask again."""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Literal

from rlpost.errors import ConfigError
from rlpost.media.change import named
from rlpost.rollout.asked import with_opening
from rlpost.rollout.context import Context
from rlpost.types import Rollout, Task

HINT = "A solution of this begins with: {hint}"
MEAN, TRACE = "augmented/mean/", "augmented/trace/"


def augmented(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    window: int = 50,
    margin: float = 0.05,
    hint_scale: float = 1.0,
    most_hint: float = 0.5,
    noise: Literal["gaussian", "mask"] = "gaussian",
    noise_scale: float = 1.0,
    most_noise: float = 0.5,
    template: str = HINT,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """A group of completions of each task; of a hard one a second group with a hint, of an easy one on worse frames.

    Equation:
        R = mean of the mean rewards of the last `window` steps;  Delta(x) = mean r(x) - R
        Delta < -margin: x' = x with the first floor(h |s|) tokens of an earlier success s of x before it,
            h = clip(hint_scale |Delta|, 0, most_hint)
        Delta > margin: x' = x with frames + N(0, (noise_scale Delta)^2) in units of the pixels' deviation (gaussian),
            or with the share clip(noise_scale Delta, 0, most_noise) of its frames in grey (mask)
        y'_1 .. y'_G ~ pi(. | x') train in the place of y_1 .. y_G

    Gradient:
        The hint is part of the prompt. Old, current and reference policy are all conditioned on x'.

    Reduces to:
        rollout sample while R is unknown (the first step), and at an infinite margin.

    Edge cases:
        A hard task that no completion has ever solved, an easy one without a video, and one to whose completions no
        reward applies are left as they are. Rows under x' have the role "augmented" and a group of their own; the
        first ones, which then do not train, stay for metrics and curriculum: keep trained_rows takes them out of the
        loss. A success is a completion of x itself, in an earlier step, whose `reward` (the weighted total where it
        names none) is `threshold` or more; the last one counts. No task is augmented twice in a step. `template` holds
        {hint}.

    Paper:
        DeepVideo-R1, arXiv 2506.07464. Assumed: all numbers, the wording, and that the window holds the mean of the
        first groups; of several processes each measures its own share of a step.
    """
    if window < 1 or margin < 0 or not 0 <= most_hint <= 1 or not 0 <= most_noise <= 1 or "{hint}" not in template:
        raise ConfigError(
            f"rollout augmented: window={window} must be 1 or more, margin={margin:g} 0 or more, most_hint="
            f"{most_hint:g} and most_noise={most_noise:g} shares, and template must hold {{hint}}"
        )
    n = ctx.num_generations
    usual = _usual(ctx.prompts)
    known = {task.id: ctx.prompts.get(f"{TRACE}{task.id}", "") for task in tasks}
    rows = ctx.generate(tasks, n)
    means = _noted(tasks, rows, ctx, reward, threshold)
    _keep_mean(ctx, [mean for mean in means if not math.isnan(mean)], window)
    asked, taken = [], []
    for i, (task, mean) in enumerate(zip(tasks, means, strict=True)):
        if usual is None or math.isnan(mean) or abs(mean - usual) <= margin:
            continue
        delta = mean - usual
        other = (
            _hinted(task, known[task.id], min(hint_scale * -delta, most_hint), ctx, template)
            if delta < 0
            else _worse(task, noise, noise_scale * delta, most_noise, ctx)
        )
        if other is not None:
            asked.append(other)
            taken.append(i)
    again = ctx.generate(asked, n, role="augmented")
    for i in taken:
        for row in rows[i * n : (i + 1) * n]:
            row.trains = [False] * len(row.tokens)
    return rows + again


def _usual(notes: MutableMapping[str, Any]) -> float | None:
    """The mean over the steps that are in the window, None while there is none."""
    seen = [notes[name][1] for name in notes if name.startswith(MEAN)]
    return fmean(seen) if seen else None


def _keep_mean(ctx: Context, means: Sequence[float], window: int) -> None:
    """Note this step's mean under a name that no other process and step has; steps behind the window leave."""
    if means:
        ctx.prompts[f"{MEAN}{ctx.names}"] = (ctx.step, fmean(means))
    for name in [name for name in ctx.prompts if name.startswith(MEAN)]:
        if ctx.prompts[name][0] <= ctx.step - window:
            del ctx.prompts[name]


def _noted(tasks: Sequence[Task], rows: Sequence[Rollout], ctx: Context, reward: str, threshold: float) -> list[float]:
    """The mean reward of each task's rows, NaN where none applies; successes are stored."""
    n, totals, found = ctx.num_generations, ctx.totals(rows, reward=reward), []
    for i, task in enumerate(tasks):
        scores = totals[i * n : (i + 1) * n]
        for row, score in zip(rows[i * n : (i + 1) * n], scores, strict=True):
            if score >= threshold:
                ctx.prompts[f"{TRACE}{task.id}"] = row.text
        known = [score for score in scores if not math.isnan(score)]
        found.append(fmean(known) if known else math.nan)
    return found


def _hinted(task: Task, trace: str, share: float, ctx: Context, template: str) -> Task | None:
    tokens = ctx.tokens(trace)
    hint = ctx.encoder.decode(tokens[: math.floor(share * len(tokens))])
    return with_opening(task, template.replace("{hint}", hint)) if hint else None


def _worse(task: Task, noise: str, amount: float, most: float, ctx: Context) -> Task | None:
    if all(medium.kind != "video" for medium in task.media):
        return None
    size = min(amount, most) if noise == "mask" else amount
    media = tuple(
        replace(medium, change=named("grey" if noise == "mask" else "noise", ctx.rng.getrandbits(31), size))
        if medium.kind == "video"
        else medium
        for medium in task.media
    )
    return replace(task, media=media)
