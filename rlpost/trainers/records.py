"""What a step writes down: metrics, lines of `rollouts.jsonl`, and micro-batches packed for a checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from rlpost.rows import MicroBatch
from rlpost.stack import RewardStack
from rlpost.step import Credit, total_reward
from rlpost.types import Counts, Prompt, Rollout, Scored, Task


def step_metrics(rollouts: Sequence[Rollout], credit: Credit, stack: RewardStack, seconds: float) -> dict[str, float]:
    """Means over the rows of a step; rows that only inform (a contrast arm) are told apart by their role."""
    own = [i for i, r in enumerate(rollouts) if r.role == "policy"] or list(range(len(rollouts)))
    raw = stack.table([rollouts[i] for i in own])
    lengths = torch.tensor([float(len(rollouts[i].tokens)) for i in own])
    generated = sum(len(r.tokens) for r in rollouts)
    shaped = total_reward(credit.shaped, stack.weights)[own]
    metrics = {
        "reward": float(shaped.mean()),
        "reward_std": float(shaped.std()) if len(own) > 1 else 0.0,
        "length": float(lengths.mean()),
        "sampled_entropy": _surprise([rollouts[i] for i in own]),
        "cut_at_limit": sum(rollouts[i].stop == "length" for i in own) / len(own),
        "groups_without_signal": _without_signal(credit.scored),
        "rows_kept": float(len(credit.scored.mask)) / len(rollouts),
        "tokens_per_s": generated / seconds if seconds else 0.0,
    }
    for k, name in enumerate(stack.names):
        there = raw[:, k][~torch.isnan(raw[:, k])]
        if len(there):
            metrics[f"reward/{name}"] = float(there.mean())
    for role in {r.role for r in rollouts} - {"policy"}:
        rest = stack.table([r for r in rollouts if r.role == role])
        judged = rest[~torch.isnan(rest).all(-1)]
        if len(judged):
            metrics[f"reward_of_{role}"] = float(total_reward(judged, stack.weights).mean())
    return metrics


def rollout_records(
    rollouts: Sequence[Rollout], credit: Credit, stack: RewardStack, step: int, thumbnails: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One line per completion for `rollouts.jsonl`; a row that did not stay has no advantage.

    `thumbnails` are small pictures of the first row's video.
    """
    place = {row: i for i, row in enumerate(credit.keep.nonzero()[:, 0].tolist())}
    total = total_reward(credit.shaped, stack.weights)
    lines = []
    for i, rollout in enumerate(rollouts):
        advantage = None
        if i in place:
            row = credit.scored.advantage[place[i]]
            mask = credit.scored.mask[place[i]]
            advantage = float(row[mask].mean()) if mask.any() else 0.0
        lines.append(_line(rollout, row=i, step=step, reward=float(total[i]), advantage=advantage))
    if thumbnails:
        lines[0]["thumbnails"] = list(thumbnails)
    return lines


def scored_records(rollouts: Sequence[Rollout], stack: RewardStack) -> list[dict[str, Any]]:
    """The same lines for completions that nothing trains on: the weighted reward, without step and advantage."""
    total = total_reward(stack.table(rollouts), stack.weights)
    return [_line(r, row=i, step=None, reward=float(total[i]), advantage=None) for i, r in enumerate(rollouts)]


def _line(rollout: Rollout, *, row: int, step: int | None, reward: float, advantage: float | None) -> dict[str, Any]:
    answer = rollout.task.answer
    return {
        "step": step,
        "task": rollout.task.id,
        "group": rollout.group,
        "row": row,
        "role": rollout.role,
        "prompt": prompt_text(rollout.task),
        "answer": answer if isinstance(answer, (str, int, float)) else None,
        "text": rollout.text,
        "stop": rollout.stop,
        "tokens": len(rollout.tokens),
        "scores": dict(rollout.scores),
        "reward": reward,
        "advantage": advantage,
        "info": {k: v for k, v in rollout.info.items() if isinstance(v, (str, int, float, bool))},
    }


def prompt_text(task: Task) -> str:
    """The messages of a task as plain text, media as their kind in brackets."""
    parts = []
    for message in task.prompt:
        content = message["content"]
        if isinstance(content, str):
            parts.append(content)
        else:
            parts += [p.get("text") or f"[{p.get('type')}]" for p in content]
    return "\n".join(parts)


def pack(item: MicroBatch) -> dict[str, Any]:
    """A micro-batch as tensors and plain data, readable without running code; decoded media are not kept."""
    bare = [replace(r, task=replace(r.task, media=())) for r in item.rollouts]
    return {
        "rollouts": [{**_fields(r), "task": _fields(r.task), "prompt": _fields(r.prompt)} for r in bare],
        "scored": _simple(vars(item.scored)),
        "counts": asdict(item.counts),
        "logps": dict(item.logps),
    }


def unpack(state: dict[str, Any]) -> MicroBatch:
    """The micro-batch that `pack` wrote."""
    rollouts = [
        Rollout(**{**r, "task": Task(**{**r["task"], "media": ()}), "prompt": Prompt(**r["prompt"])})
        for r in state["rollouts"]
    ]
    table: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in state["scored"].items()}
    table["source"] = tuple(tuple(row) for row in table["source"])
    return MicroBatch(rollouts, Scored(**table), Counts(**state["counts"]), dict(state["logps"]))


def _surprise(rollouts: Sequence[Rollout]) -> float:
    """Mean of -log p of the sampled tokens: the sampling distribution's entropy, also of rows that are not scored."""
    values = [-p for r in rollouts for p, trains in zip(r.gen_logp, r.trains, strict=True) if trains]
    return sum(values) / len(values) if values else 0.0


def _without_signal(table: Scored) -> float:
    groups = table.group.unique()
    if not len(groups):
        return 1.0
    silent = sum(bool((table.advantage[table.group == g] == 0).all()) for g in groups)
    return silent / len(groups)


def _fields(record: Any) -> dict[str, Any]:
    """Without a copy of the tensors: rows that share a prompt share its media also after a resume."""
    return {k: _simple(v) for k, v in vars(record).items() if k not in ("task", "prompt") or isinstance(record, Task)}


def _simple(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _simple(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_simple(v) for v in value]
    if value is None or isinstance(value, (str, bool, int, float, torch.Tensor)):
        return value
    return str(value)
