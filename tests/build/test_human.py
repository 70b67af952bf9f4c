"""Demonstrations against the model's own answers."""

from dataclasses import replace

import pytest

from rlpost.build.human import human_against_own
from rlpost.errors import DataError
from tests.build.rows import said, task


def test_every_own_answer_that_differs_is_rejected():
    one = replace(task("q"), demonstration="42")
    talk = replace(task("r"), demonstration=[{"role": "assistant", "content": "yes"}])
    rows = [said(one, "41"), said(one, " 42 "), said(one, ""), said(talk, "no"), said(talk, "yes")]
    found = [(row.id, row.columns["chosen"], row.columns["rejected"]) for row in human_against_own(rows)]
    assert found == [("q", "42", "41"), ("r", [{"role": "assistant", "content": "yes"}], "no")]
    with pytest.raises(DataError, match="task s has no demonstration"):
        human_against_own([said("s", "x")])
