"""Values of a rollout as scores of spans."""

import pytest

from rlpost.errors import RewardError
from rlpost.reward.value import prefix_value
from tests.reward.test_process import row


def test_values_are_scores_of_spans_where_there_are_any():
    valued, plain, none = row("a", "b"), row("c"), row("d")
    valued.info["values"], none.info["values"] = [0.25, 0.75], []
    assert prefix_value([valued, plain, none]) == [[0.25, 0.75], None, None]
    valued.info["values"] = [0.25]
    with pytest.raises(RewardError, match="task t has 1 values for 2 spans"):
        prefix_value([valued])
