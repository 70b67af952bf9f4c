"""The process of a sweep: `python -m rlpost._hydra_main <verb> --multirun ...`, with hydra.main's own semantics."""

import sys
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from rlpost import catalogue
from rlpost.cli import ENVIRONMENT
from rlpost.errors import RlpostError
from rlpost.multirun import JobFailed, run_job
from rlpost.run import redact


class Told(CompactHydraException):
    """A job that failed: Hydra prints its sentence, or its traceback where there is none, without secrets."""


def job(_: DictConfig) -> float | None:
    """One job: its overrides are composed again by rlpost, which judges all of them together."""
    facts = HydraConfig.get()
    overrides = [text.removeprefix("++") for text in facts.overrides.task]
    paths = [text for text in facts.overrides.hydra if text.startswith("hydra.searchpath=")]
    try:
        return run_job(str(facts.job.config_name), [*overrides, *paths], Path(facts.runtime.output_dir))
    except JobFailed as error:
        told = str(error) if isinstance(error.__cause__, RlpostError) else traceback.format_exc()
        raise Told(redact.values(told)) from None


def main() -> None:
    """Hand the command to hydra.main."""
    import os

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    command = sys.argv.pop(1)
    hydra.main(version_base="1.3", config_path=str(catalogue.recipes_dir()), config_name=command)(job)()


if __name__ == "__main__":
    from rlpost._hydra_main import main as importable

    importable()
