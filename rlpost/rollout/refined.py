"""Rollouts that ask again with help and teach what came of it under the question alone."""

import math
import re
from collections.abc import Sequence
from typing import Literal

from rlpost.errors import ConfigError
from rlpost.rollout.asked import after_attempt, with_remark
from rlpost.rollout.context import Context
from rlpost.rollout.feedback import CRITIC, asked
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task

REFINE = "Use this feedback to improve the answer. Write the whole improved answer."
Critique = Literal["simple_gt", "indicative", "text"]
# An explanation that says that it knew the answer.
REVEALS = (
    r"(?i)\b(?:given|provided|told|supplied|said)\b[^.\n]{0,40}\banswer\b"
    r"|\banswer\b[^.\n]{0,40}\b(?:given|provided|told)\b"
)
EXPLAIN = "The correct answer is {answer}. Explain step by step how to get there."


def critique_grpo(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    critique: Critique = "simple_gt",
    right: str = "The answer is correct.",
    wrong: str = "The answer is not correct.",
    truth: str = "The correct answer is {answer}.",
    refine: str = REFINE,
    judge: str | None = None,
    critic: str = CRITIC,
    judge_tokens: int = 512,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """G - 1 completions of each task, and the best of their refinements after a critique, under the task's own prompt.

    Equation:
        y_1 .. y_(G-1) ~ pi(. | x);  c_i = right or wrong by r_i >= threshold, for simple_gt followed by truth
        text: for a wrong y_i what models.<judge> says of it, for a right one as simple_gt
        z_i ~ pi(. | x, y_i, c_i, refine);  y_G = the first z_i with r >= threshold, else the first of the highest r

    Gradient:
        y_G is a row under x with source "expert": nothing that was asked in between is part of it.

    Reduces to:
        rollout sample with one completion less, where the refinement is left out (keep policy_rows).

    Edge cases:
        r is the reward that `reward` names, the weighted total where it names none. The refinement has the role
        "refinement", so that metrics and curriculum see the policy's own rows. A refinement to which no reward applies
        comes last. A critique with `truth` of a task without an answer is the judgement alone. An attempt of which the
        judge says nothing has the critique of simple_gt. The judge sees the answer key, and text only.

    Paper:
        Critique-GRPO, arXiv 2506.03106: 7 completions, one refinement kept.
        Assumed: the wording. Every completion is refined.
    """
    if ctx.num_generations < 2:
        raise ConfigError(
            f"rollout critique_grpo has rollout.num_generations={ctx.num_generations}, one of which is the refinement; "
            "set 2 or more"
        )
    n = ctx.num_generations - 1
    rows = ctx.generate(tasks, n)
    good = [score >= threshold for score in ctx.totals(rows, reward=reward)]
    plain = _judged(rows, good, right, wrong, "" if critique == "indicative" else truth)
    said = _written(rows, good, plain, ctx, judge, critic, judge_tokens) if critique == "text" else plain
    prompts = [after_attempt(row.task, row.text, f"{one} {refine}") for row, one in zip(rows, said, strict=True)]
    tries = ctx.generate(prompts, 1, group=[row.group for row in rows])
    totals = ctx.totals(tries, reward=reward)
    for i, task in enumerate(tasks):
        best = _best(totals[i * n : (i + 1) * n], threshold) + i * n
        found = tries[best]
        whole = Start.given(found.tokens, "expert", trains=True)
        row = ctx.written(task, rows[best].group, whole, role="refinement", stop=found.stop)
        row.scores, row.info = dict(found.scores), {"refined": rows[best].text}
        rows.append(row)
    return rows


def _judged(rows: Sequence[Rollout], good: Sequence[bool], right: str, wrong: str, truth: str) -> list[str]:
    """Whether each attempt is right, in words, and what would be where `truth` says so and the task knows."""
    found = []
    for row, one in zip(rows, good, strict=True):
        known = truth and row.task.answer is not None
        found.append((right if one else wrong) + (f" {_filled(truth, row.task)}" if known else ""))
    return found


def _written(
    rows: Sequence[Rollout],
    good: Sequence[bool],
    plain: Sequence[str],
    ctx: Context,
    judge: str | None,
    critic: str,
    tokens: int,
) -> list[str]:
    """What a second model says of the wrong attempts, and `plain` for the others and where it says nothing."""
    if judge is None or "{answer}" not in critic or tokens < 1:
        raise ConfigError(
            "rollout.critique=text asks a second model: set rollout.judge=judge and, for instance, "
            "scorer@models.judge=local; critic must hold {answer}, and judge_tokens be 1 or more"
        )
    found, wrong = list(plain), [i for i, one in enumerate(good) if not one]
    questions = [asked(rows[i], critic) for i in wrong]
    replies = ctx.models[judge].judge(questions, max_tokens=tokens) if wrong else []
    for i, reply in zip(wrong, replies, strict=True):
        found[i] = reply or found[i]
    return found


def _best(scores: Sequence[float], threshold: float) -> int:
    """The first score that reaches the threshold, else the first of the highest; NaN comes last."""
    ranked = [-math.inf if math.isnan(score) else score for score in scores]
    return next((i for i, score in enumerate(ranked) if score >= threshold), ranked.index(max(ranked)))


def expo(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    explain: str = EXPLAIN,
    conclusion: str = "\nThe answer is {answer}.",
    scope: Literal["all", "failed"] = "all",
    filtered: bool = False,
    reveals: str = REVEALS,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """A group of completions of each task, and an explanation of its answer that the policy wrote knowing the answer.

    Equation:
        y_1 .. y_G ~ pi(. | x);  c ~ pi(. | x, explain);  the row (c, conclusion) stands under x, with source "expert"

    Reduces to:
        rollout sample for tasks without an answer.

    Edge cases:
        The explanation is in the task's group but no reward applies to it: it is left out of the group's statistics and
        has advantage 0; regularizer expert_nll teaches it. scope "failed" explains only tasks none of whose completions
        reaches the threshold. filtered drops explanations whose own last answer the rewards find wrong, before the
        conclusion is added, and those in which the regular expression `reveals` finds that the answer was given. An
        explanation that the length limit cut gets its conclusion all the same.

    Paper:
        ExPO: Unlocking Hard Reasoning with Self-Explanation-Guided RL, arXiv 2507.02834.
        Assumed: one explanation per task and step by the current policy; the wording of request and conclusion; G 8.
    """
    n = ctx.num_generations
    rows = ctx.generate(tasks, n)
    groups = [rows[i * n].group for i in range(len(tasks))]
    chosen = [i for i, task in enumerate(tasks) if task.answer is not None]
    if scope == "failed":
        totals = ctx.totals(rows, reward=reward)
        chosen = [i for i in chosen if not any(score >= threshold for score in totals[i * n : (i + 1) * n])]
    prompts = [with_remark(tasks[i], _filled(explain, tasks[i])) for i in chosen]
    found = ctx.generate(prompts, 1, group=[groups[i] for i in chosen])
    scores = ctx.totals(found, reward=reward) if filtered else [threshold] * len(found)
    for i, row, score in zip(chosen, found, scores, strict=True):
        if score >= threshold and not (filtered and reveals and re.search(reveals, row.text)):
            rows.append(_explained(tasks[i], groups[i], row, conclusion, ctx))
    return rows


def _explained(task: Task, group: str, found: Rollout, conclusion: str, ctx: Context) -> Rollout:
    said = found.tokens[: len(found.tokens) - (found.stop == "eos")]
    tokens = [*said, *ctx.tokens(_filled(conclusion, task)), ctx.encoder.tokenizer.eos_token_id]
    row = ctx.written(task, group, Start.given(tokens, "expert", trains=True), role="explanation")
    ctx.unscored([row])
    return row


def _filled(text: str, task: Task) -> str:
    return text.replace("{answer}", str(task.answer))
