"""A dataset with rows of every fate, and `rlpost` runs over it in this process, or in the ranks of a fork server."""

import json
import sys
from pathlib import Path

from rlpost import execute

SOUND = 10
LONG = "word " * 500  # 2500 bytes: more than the 2048 tokens that model=tiny knows


def written(path: Path) -> Path:
    """Ten sound rows, three that are too long for the model, and one each that is broken, empty and lacks a prompt."""
    rows = [
        {"prompt": f"what is {i} + {i} ?", "answer": str(2 * i), "completion": f"it is {2 * i}", "id": f"sound-{i}"}
        for i in range(SOUND)
    ]
    rows += [{"prompt": LONG + str(i), "answer": "1", "completion": "1", "id": f"long-{i}"} for i in range(3)]
    rows += [{"prompt": " ", "answer": "1", "completion": "1"}, {"answer": "1", "completion": "1"}]
    text = "\n".join(json.dumps(row) for row in rows) + '\n{"prompt": "cut of'
    path.write_text(text, encoding="utf-8")
    return path


def overrides(path: Path, folder: Path) -> list[str]:
    """What all verbs share: the dataset, and no limit but those of a test."""
    return [
        "model=tiny", "dataset=files", f"dataset.path={path}", "dataset.test_share=0.0", "dataset.max_bad=0.9",
        f"run.dir={folder}", "run.report=false",
    ]  # fmt: skip


GRPO = [
    "rollout.max_tokens=4", "rollout.num_generations=2", "trainer.per_device_train_batch_size=12",
    "trainer.max_steps=4", "trainer.save_steps=4", "evaluation.tasks=0",
]  # fmt: skip


def main(path: str, folder: str, *more: str) -> None:
    given = [*overrides(Path(path), Path(folder)), *GRPO, *more]
    sys.exit(execute.exit_code(lambda: execute.execute("grpo", given), "grpo"))


if __name__ == "__main__":
    main(*sys.argv[1:])
