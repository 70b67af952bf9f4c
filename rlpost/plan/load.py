"""What passes the model at once: how the longest sampled tasks fill a micro-batch, and what a rollout draws of them."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlpost.kernels import prefix
from rlpost.models.encode import Encoder
from rlpost.nodes import build
from rlpost.plan.batch import cycle_of, numbers
from rlpost.plan.memory import Load
from rlpost.plan.tokens import Lengths, limits
from rlpost.rollout.context import Context
from rlpost.rollout.engine import Completion, Sampling
from rlpost.stack import RewardStack
from rlpost.types import Prompt, Rollout, Task


@dataclass(frozen=True)
class Drawn:
    """A dry run of the rollout: the largest call of the engine, and the rows of a group that have tokens that train.

    `together` rows of `prompts` different prompts, of at most `prompt` tokens, are given `answer` tokens each. A group
    has at most `group_rows` rows of `group_tokens` tokens in all, `group_trained` of which train, of `row_tokens` each.
    """

    together: int
    prompts: int
    prompt: int
    answer: int
    group_rows: int
    group_tokens: int
    group_trained: int
    row_tokens: int


def dry_run(tree: Mapping[str, Any], tasks: Sequence[Task], encoder: Encoder, sampling: Sampling) -> Drawn:
    """Run the rollout on `tasks` with made-up completions that all reach their limit; no model is asked.

    There are no rewards either, so that a rollout that decides by them decides as where none applies.
    """
    token = encoder.tokenizer("1", add_special_tokens=False)["input_ids"][-1]
    calls: list[tuple[int, int, int, int]] = []

    def engine(prompts: Sequence[Prompt], n: int, how: Sampling) -> list[Completion]:
        longest = max((len(prompt.ids) for prompt in prompts), default=0)
        calls.append((len(prompts) * n, len({prefix.key(p) for p in prompts}), longest, how.max_tokens))
        return [Completion([token] * how.max_tokens, [0.0] * how.max_tokens, "length") for _ in range(len(prompts) * n)]

    context = Context(
        engine, encoder, RewardStack({}), sampling, int(tree["rollout"]["num_generations"]), random.Random(0)
    )
    rows = build(dict(tree["rollout"]))(list(tasks), context)
    groups: dict[str, list[Rollout]] = {}
    for row in rows:
        if any(row.trains):
            groups.setdefault(row.group, []).append(row)
    together, prompts, prompt, answer = max(calls, default=(0, 0, 0, 0))
    return Drawn(
        together=together,
        prompts=prompts,
        prompt=prompt,
        answer=answer,
        group_rows=max((len(group) for group in groups.values()), default=0),
        group_tokens=max((sum(len(row.tokens) for row in group) for group in groups.values()), default=0),
        group_trained=max((sum(sum(row.trains) for row in group) for group in groups.values()), default=0),
        row_tokens=max((len(row.tokens) for group in groups.values() for row in group), default=0),
    )


def tasks_per_generation(tree: Mapping[str, Any]) -> int:
    """Tasks that a rank collects rollouts of at once."""
    n = numbers(tree)
    rows = n["rows"] * n["accumulation"] * cycle_of(tree)
    return max(1, math.ceil(rows / int(tree["rollout"]["num_generations"])))


def of_grpo(model: Any, tree: Mapping[str, Any], lengths: Lengths, drawn: Drawn | None) -> Load:
    """The load of a GRPO step: whole groups of the longest prompt, each completion at its limit.

    groups of a micro-batch = ceil(rows * accumulation * ranks / num_generations / micro-batches of all ranks).
    tokens = groups * (prompt + the completions of a group) where prompts are shared (`kernels.completions_at_once`
    keeps those of so many alone), completions * (prompt + longest completion), padded, elsewhere.
    """
    n, group = numbers(tree), int(tree["rollout"]["num_generations"])
    limit = int(tree["rollout"]["max_tokens"])
    total, parts = n["rows"] * n["accumulation"] * n["ranks"], n["accumulation"] * n["ranks"]
    groups = math.ceil(total / group / parts)
    if drawn is None:
        made = tasks_per_generation(tree)
        longest = max((one.prompt for one in lengths.found), default=0)
        drawn = Drawn(made * group, made, longest, limit, group, group * limit, group * limit, limit)
    rows, answer, answers = groups * drawn.group_rows, drawn.row_tokens, groups * drawn.group_tokens
    longest = max((one.prompt for one in lengths.found), default=0)
    patches = patches_of(model, lengths)
    asked = (tree.get("kernels") or {}).get("completions_at_once")
    packed, alone = groups * longest + answers, rows * longest + answers
    shared = shares(model, tree) and alone > prefix.WORTH * packed
    kept = min(answers, int(asked) * answer) if asked else answers
    load = Load(
        tokens=groups * longest + kept if shared else rows * (longest + answer),
        rows=rows,
        trained=groups * drawn.group_trained,
        patches=(groups if shared else rows) * patches,
        drawn=drawn.together,
        drawn_prompts=drawn.prompts,
        prompt=drawn.prompt,
        answer=drawn.answer,
    )
    return _with_streams(load, tree, lengths, parts)


def _with_streams(load: Load, tree: Mapping[str, Any], lengths: Lengths, parts: int) -> Load:
    """Auxiliary streams put rows beside those of a micro-batch: ceil(rows / micro-batches of all ranks) each."""
    extra = sum(math.ceil(int(node.get("rows") or 0) / parts) for node in (tree.get("aux") or {}).values())
    if not extra:
        return load
    longest = max((one.whole for one in lengths.found), default=0)
    answer = max((max(one.answers, default=0) for one in lengths.found), default=0)
    return Load(
        **{
            **vars(load),
            "tokens": load.tokens + extra * longest,
            "rows": load.rows + extra,
            "trained": load.trained + extra * answer,
        }
    )


def of_rows(command: str, model: Any, tree: Mapping[str, Any], lengths: Lengths) -> Load:
    """The load of sft, dpo and reward: a micro-batch padded to its longest prompt and its longest answer.

    sft: rows * (prompt + answer); reward: twice as many rows; dpo: likewise, or rows * prompt + 2 * rows * answer where
    both answers share their prompt. A row above the limit is left out, so none is longer than that.
    """
    _, limit = limits(command, tree)
    fits = [one for one in lengths.found if limit is None or one.whole <= limit]
    prompt = max((one.prompt for one in fits), default=0)
    answer = max((max(one.answers, default=0) for one in fits), default=0)
    pairs = 1 if command == "sft" else 2
    rows = numbers(tree)["rows"]
    alone, packed = pairs * rows * (prompt + answer), rows * (prompt + 2 * answer)
    shared = command == "dpo" and shares(model, tree) and alone > prefix.WORTH * packed
    patches = patches_of(model, lengths)
    return Load(
        tokens=packed if shared else alone,
        rows=pairs * rows,
        trained=0 if command == "reward" else pairs * rows * answer,
        patches=(rows if shared else pairs * rows) * patches,
    )


def shares(model: Any, tree: Mapping[str, Any]) -> bool:
    """Whether the run would encode a prompt once for all that follows it."""
    wanted = (tree.get("kernels") or {}).get("prefix", "auto")
    function = getattr(build(dict(tree["likelihood"])), "func", None) if tree.get("likelihood") else None
    able = getattr(function, "shares_prompts", False) and prefix.refusal(model) is None
    return bool(able) and wanted not in ("off", False)


def patches_of(model: Any, lengths: Lengths) -> int:
    """Patches of the task with most media: visual tokens times the patches that are merged into one."""
    vision = getattr(model.config, "vision_config", None)
    merged = getattr(vision, "spatial_merge_size", 1) ** 2 if vision is not None else 0
    return merged * max((one.visual for one in lengths.found), default=0)
