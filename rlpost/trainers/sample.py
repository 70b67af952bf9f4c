"""`rlpost sample`: generate and score completions without training; a later stage can be built from what it writes."""

import time
from statistics import mean
from typing import Any

from rich.console import Console

from rlpost.config import Config, build
from rlpost.run.folder import RunFolder
from rlpost.run.tables import table
from rlpost.trainers import records
from rlpost.trainers.evaluate import completions, prepare, reward_means

SHOWN = 5
WIDTH = 60


def run(cfg: Config, folder: RunFolder) -> dict[str, Any]:
    """Write `rollouts.jsonl`; return the mean of each reward and of their weighted sum."""
    begin = time.monotonic()
    bundle, tasks, stack = prepare(cfg)
    rollouts = completions(cfg, bundle, tasks, stack, "Sample", build(cfg.tree["rollout"]))
    lines = records.scored_records(rollouts, stack)
    folder.rollouts(lines)
    if folder.writes:
        _show(lines)
    total = mean(line["reward"] for line in lines)
    cut = mean(float(line["stop"] == "length") for line in lines)
    return {
        "rewards": reward_means(rollouts, stack),
        "tasks": len(tasks),
        "completions": len(lines),
        "objective": total,
        "table": {"mean reward": total, "completions": len(lines), "cut at the length limit": cut},
        "minutes": (time.monotonic() - begin) / 60,
    }


def _show(lines: list[dict[str, Any]]) -> None:
    """A few completions of different tasks, evenly spread over the split."""
    first = list({line["task"]: line for line in reversed(lines)}.values())[::-1]
    picked = first[:: max(1, len(first) // SHOWN)][:SHOWN]
    rows = [[_short(line["prompt"]), _short(line["text"]), str(line["answer"]), line["reward"]] for line in picked]
    Console().print(table("Samples", ["prompt", "completion", "answer", "reward"], rows))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= WIDTH else flat[: WIDTH - 3] + "..."
