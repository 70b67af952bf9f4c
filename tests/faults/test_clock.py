"""The clock of the system may jump by years in the middle of a run: nothing that a run measures or limits reads it."""

import itertools
import time

from rlpost import execute
from rlpost.run.folder import RunFolder

YEARS = 10 * 365 * 86_400.0


def test_a_run_does_not_notice_that_the_clock_jumps(tmp_path, monkeypatch):
    real, jumps = time.time, itertools.cycle([0.0, YEARS, -YEARS])
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    result = execute.execute(
        "sft",
        [
            "model=tiny", "evaluation.tasks=0", "dataset.train_size=32", "trainer.per_device_train_batch_size=2",
            "trainer.max_steps=3", "trainer.max_minutes=60", "watchdog.backward=600", f"run.dir={tmp_path / 'run'}",
            "trainer.save_steps=2", "run.report=false",
        ],
    )  # fmt: skip
    assert result["steps"] == 3 and 0 < result["minutes"] < 60
    records = RunFolder.open(tmp_path / "run").metrics()
    seconds = [record["time"] for record in records]
    assert seconds == sorted(seconds) and min(seconds) >= 0 and max(seconds) < 3600
    measured = [v for r in records for name, v in r.items() if name.startswith("time/") or name == "train_runtime"]
    assert measured and all(0 <= value < 3600 for value in measured)
    assert not any(name.endswith("samples_per_second") for record in records for name in record)
