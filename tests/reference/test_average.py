"""When the reference moves, and by how much."""

import pytest

from rlpost.errors import ConfigError
from rlpost.reference.average import moving_average


def test_the_old_weights_keep_their_share_every_so_many_steps():
    assert [moving_average(step, decay=0.9, every=3) for step in range(8)] == [1, 1, 1, 0.9, 1, 1, 0.9, 1]
    assert moving_average(10) == 0.995 and moving_average(9) == moving_average(0) == 1.0


@pytest.mark.parametrize("knobs", [{"decay": 1.1}, {"decay": -0.1}, {"every": 0}])
def test_shares_and_steps_that_cannot_be(knobs):
    with pytest.raises(ConfigError, match="moving_average has"):
        moving_average(1, **knobs)
