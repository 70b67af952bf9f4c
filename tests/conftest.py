"""Settings of every test process, before torch is imported: one thread each, since the suite runs in parallel."""

import gc
import os

from rlpost.cli import ENVIRONMENT

for name, value in {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "RLPOST_ALLOW_TARGETS": "tests"}.items():
    os.environ.setdefault(name, value)


def pytest_collection_finish() -> None:
    """What is imported stays: a collection of garbage (one at the end of every run that trains) need not look at it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Or extension modules would report what they hold at the end as leaked."""
    gc.unfreeze()
