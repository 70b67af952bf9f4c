"""Short real runs to export, and the fresh process without its start where a test is about something else."""

import subprocess

from rlpost.config import build, compose
from rlpost.export import fresh
from rlpost.models.tiny import byte_tokenizer
from rlpost.run.folder import RunFolder
from rlpost.trainers import sft


def saved_base(place):
    """model=tiny as a folder that `save_pretrained` wrote."""
    build(compose("sft", ["model=tiny"]).tree["model"])().model.save_pretrained(place)
    byte_tokenizer().save_pretrained(place)
    return place


def run_sft(place, *overrides):
    """A smoke run of rlpost sft with a learning rate that moves weights."""
    cfg = compose(
        "sft", ["debug=smoke", "trainer.learning_rate=0.01", "evaluation.tasks=2", f"run.dir={place}", *overrides]
    )
    assert not cfg.faults, cfg.faults
    folder = RunFolder.create(cfg)
    folder.done(sft.run(cfg, folder))
    return folder.path


def in_process(monkeypatch):
    """Let the script of the fresh process run in this one: a start of Python takes seconds."""

    def call(line, **_):
        fresh.main(*line[3:])
        return subprocess.CompletedProcess(line, 0, "", "")

    monkeypatch.setattr(subprocess, "run", call)
