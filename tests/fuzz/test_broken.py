"""Every broken configuration is answered by a sentence and the right exit code, none by a traceback."""

import os
import random
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlpost.app import app
from tests.fuzz.broken import KINDS, Case, cases, out_of_range

COUNT = int(os.environ.get("RLPOST_FUZZ", "60"))
SEED = int(os.environ.get("RLPOST_FUZZ_SEED", "5"))
LONGEST = 4000  # characters: an answer is read by a person


def lay(files, place: Path) -> None:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def accepted(*_, **__):
    """Stands where a right configuration would begin to run: none of these may come here."""
    raise SystemExit("it was accepted")


def fault(code: int, said: str, case: Case) -> str | None:
    """What is wrong with an answer, None where it is right."""
    if "Traceback" in said:
        return "a traceback"
    if code != case.code:
        return f"exit code {code}, not {case.code}"
    if not any(head in said for head in (" in `rlpost ", "error: ", "Error: ")) or not said.strip():
        return "no sentence"
    return f"{len(said)} characters" if len(said) > LONGEST else None


@pytest.mark.parametrize(
    "case", cases(COUNT, SEED), ids=lambda case: " ".join(case.words)[:60].encode("unicode_escape").decode()
)
def test_a_broken_configuration_is_answered_by_a_sentence(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLPOST_ALLOW_TARGETS", "")
    lay(case.files, tmp_path)
    for place in (
        "rlpost.execute.run_checked",
        "rlpost.launch.relaunch",
        "rlpost.plan.look.look",
        "rlpost.multirun.outcomes",
    ):
        monkeypatch.setattr(place, accepted)
    monkeypatch.setattr("rlpost.multirun.subprocess.run", accepted)
    before = set(sys.modules)
    done = CliRunner().invoke(app, case.words, prog_name="rlpost")
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    assert fault(done.exit_code, done.stderr, case) is None, (
        f"{fault(done.exit_code, done.stderr, case)}: {done.stderr[:2000]}"
    )
    assert not {"torch", "transformers", "trl"} & (set(sys.modules) - before), (
        "it was answered after torch was imported"
    )
    assert not (tmp_path / "ran").exists() and not (tmp_path / "runs").exists()


def test_every_kind_is_there_and_a_right_configuration_would_be_found():
    assert {case.kind for case in cases(500, SEED)} == {
        case.kind for case in (make(random.Random(0)) for make, _ in KINDS)
    }
    assert fault(0, "", out_of_range(random.Random(0))) == "exit code 0, not 2"
