"""Groups whose first steps return different things stay."""

import pytest
import torch

from rlpost.errors import ConfigError
from rlpost.keep.spread import return_spread


def test_the_spread_of_first_steps():
    """First steps 1, 1.5 have deviation 0.354; 1, 1.4 have 0.283; a single one has 0. Later steps do not count."""
    r = torch.tensor([1.0, 1.5, 9.0, 1.0, 1.4, 9.0, 5.0])[:, None]
    group, index = torch.tensor([0, 0, 0, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 0, 0, 1, 0])
    assert return_spread(r, ("action_return",), group, index).tolist() == [True] * 3 + [False] * 4
    assert return_spread(r, ("action_return",), group, index, least=0.28).tolist() == [True] * 6 + [False]
    with pytest.raises(ConfigError, match="'g'"):
        return_spread(r, ("action_return",), group, index, reward="g")
