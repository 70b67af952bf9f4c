"""A malformed row or file of rows is counted or answered by a sentence; sound ones beside it survive."""

import pytest

from scripts import fuzz_inputs
from scripts.malformed import rows


@pytest.fixture(scope="module")
def encoders():
    made = fuzz_inputs.Encoders()
    yield made
    made.close()


def test_every_kind_is_answered(encoders, tmp_path):
    told = [fuzz_inputs.tried(case, encoders) for case in fuzz_inputs.cases(rows.MAKERS, len(rows.MAKERS), 0, tmp_path)]
    assert [(one.case.kind, one.verdict, one.text) for one in told if one.verdict in fuzz_inputs.FAULTS] == []
    verdicts = {one.case.kind: one.verdict for one in told}
    assert len(verdicts) == len(rows.MAKERS)
    assert {kind for kind, verdict in verdicts.items() if verdict == "used"} == {
        kind for kind in verdicts if kind.startswith("sound:")
    }


def test_a_fault_would_be_seen(encoders, tmp_path, monkeypatch):
    """A loader that lets an unknown role pass, and one that raises what is no sentence."""
    odd = rows.line({"prompt": [{"role": "wizard", "content": fuzz_inputs.MARK}, *rows.USER]})
    (tmp_path / "data.jsonl").write_bytes(b"\n".join([*map(rows.line, rows.good("prompt")), odd]))
    case = fuzz_inputs.Case("row: unknown role", str(tmp_path / "data.jsonl"))
    assert fuzz_inputs.tried(case, encoders).verdict == "counted"
    monkeypatch.setattr("rlpost.dataset.shape.KNOWN_ROLES", ("user", "wizard"))
    assert fuzz_inputs.tried(case, encoders).verdict == "SILENT"
    monkeypatch.setattr("rlpost.dataset.shape.KNOWN_ROLES", None)
    assert fuzz_inputs.tried(case, encoders).verdict == "TRACEBACK"
