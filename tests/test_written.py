"""Who wrote which token, as a mask."""

import torch

from rlpost.written import written_by


def test_rows_of_unequal_length():
    source = (("expert", "policy"), ("policy", "expert", "expert", "environment"), ())
    found = written_by(source, "expert", torch.zeros(3, 4))
    assert found.tolist() == [[True, False, False, False], [False, True, True, False], [False] * 4]
    assert not written_by(source, "replay", torch.zeros(3, 4)).any()
