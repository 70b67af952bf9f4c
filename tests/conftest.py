"""Settings of every test process, before torch is imported: one thread each, since the suite runs in parallel."""

import os

from rlpost.cli import ENVIRONMENT

for name, value in {**ENVIRONMENT, "OMP_NUM_THREADS": "1", "RLPOST_ALLOW_TARGETS": "tests"}.items():
    os.environ.setdefault(name, value)
