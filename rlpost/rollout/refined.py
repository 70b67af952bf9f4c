"""Rollouts that ask again with help and teach what came of it under the question alone."""

import math
from collections.abc import Sequence
from typing import Literal

from rlpost.errors import ConfigError
from rlpost.rollout.asked import after_attempt, with_remark
from rlpost.rollout.context import Context
from rlpost.rollout.start import Start
from rlpost.types import Rollout, Task

REFINE = "Use this feedback to improve the answer. Write the whole improved answer."
EXPLAIN = "The correct answer is {answer}. Explain step by step how to get there."


def critique_grpo(
    tasks: Sequence[Task],
    ctx: Context,
    *,
    critique: Literal["simple_gt", "indicative"] = "simple_gt",
    right: str = "The answer is correct.",
    wrong: str = "The answer is not correct.",
    truth: str = "The correct answer is {answer}.",
    refine: str = REFINE,
    threshold: float = 1.0,
    reward: str = "",
) -> list[Rollout]:
    """G - 1 completions of each task, and the best of their refinements after a critique, under the task's own prompt.

    Equation:
        y_1 .. y_(G-1) ~ pi(. | x);  c_i = right or wrong by r_i >= threshold, for simple_gt followed by truth
        z_i ~ pi(. | x, y_i, c_i, refine);  y_G = the first z_i with r >= threshold, else the first of the highest r

    Gradient:
        y_G is a row under x with source "expert": nothing that was asked in between is part of it.

    Reduces to:
        rollout sample with one completion less, where the refinement is left out (keep policy_rows).

    Edge cases:
        r is the reward that `reward` names, the weighted total where it names none. The refinement has the role
        "refinement", so that metrics and curriculum see the policy's own rows. A refinement to which no reward applies
        comes last. A critique with `truth` of a task without an answer is the judgement alone.

    Paper:
        Critique-GRPO, arXiv 2506.03106: 7 completions, one refinement kept.
        Assumed: the wording; critiques that a second model writes are not there. Every completion is refined.
    """
    if ctx.num_generations < 2:
        raise ConfigError(
            f"rollout critique_grpo has rollout.num_generations={ctx.num_generations}, one of which is the refinement; "
            "set 2 or more"
        )
    n = ctx.num_generations - 1
    rows = ctx.generate(tasks, n)
    asked = []
    for row, score in zip(rows, ctx.totals(rows, reward=reward), strict=True):
        said = right if score >= threshold else wrong
        if critique == "simple_gt" and row.task.answer is not None:
            said = f"{said} {_filled(truth, row.task)}"
        asked.append(after_attempt(row.task, row.text, f"{said} {refine}"))
    tries = ctx.generate(asked, 1, group=[row.group for row in rows])
    totals = ctx.totals(tries, reward=reward)
    for i, task in enumerate(tasks):
        best = _best(totals[i * n : (i + 1) * n], threshold) + i * n
        found = tries[best]
        whole = Start.given(found.tokens, "expert", trains=True)
        row = ctx.written(task, rows[best].group, whole, role="refinement", stop=found.stop)
        row.scores, row.info = dict(found.scores), {"refined": rows[best].text}
        rows.append(row)
    return rows


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
        conclusion is added. An explanation that the length limit cut gets its conclusion all the same.

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
    asked = [with_remark(tasks[i], _filled(explain, tasks[i])) for i in chosen]
    found = ctx.generate(asked, 1, group=[groups[i] for i in chosen])
    scores = ctx.totals(found, reward=reward) if filtered else [threshold] * len(found)
    for i, row, score in zip(chosen, found, scores, strict=True):
        if score >= threshold:
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
