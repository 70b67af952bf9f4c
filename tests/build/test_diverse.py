"""Which completions a greedy choice takes, and how often it finds rare kinds."""

import random

import pytest
import torch

from rlpost.build.diverse import diverse
from rlpost.errors import ConfigError
from rlpost.reward.elliptical import coreset
from tests.build.rows import said


def test_a_choice_by_hand():
    """Squared lengths 4, 3.61, 1 and .25: the second row lies in the direction of the first and is spanned by it."""
    states = torch.tensor([[2.0, 0.0], [1.9, 0.0], [0.0, 1.0], [0.0, 0.5]])
    assert coreset(states, 2, 0.01) == [0, 2] and coreset(states, 9, 0.01)[:2] == [0, 2]
    assert sorted(coreset(states, 9, 0.01)) == [0, 1, 2, 3]
    # a ridge of 100 hardly notices what is chosen: by length
    assert coreset(states, 4, 100.0) == [0, 1, 2, 3]
    inverse = torch.linalg.inv(0.3 * torch.eye(2) + torch.outer(states[0], states[0])).double()
    rest = ((states.double() @ inverse) * states).sum(-1)
    assert coreset(states, 2, 0.3)[1] == int(rest[1:].argmax()) + 1


@pytest.mark.parametrize("seed", range(3))
def test_three_of_thirty_cover_uneven_kinds_where_chance_does_not(seed):
    """24, 3 and 3 completions of three kinds, 200 times."""
    rng, draw, kinds = torch.Generator().manual_seed(seed), random.Random(seed), [0] * 24 + [1] * 3 + [2] * 3
    greedy = chance = 0
    for _ in range(200):
        centres = torch.nn.functional.normalize(torch.randn(3, 16, generator=rng), dim=-1)
        states = centres[kinds] + 0.05 * torch.randn(30, 16, generator=rng)
        greedy += len({kinds[i] for i in coreset(states, 3, 0.01)}) == 3
        chance += len({kinds[i] for i in draw.sample(range(30), 3)}) == 3
    assert greedy > 190 and chance < 30, (greedy, chance)


class Encoder:
    """The state of a text is the count of its letters a, b and c."""

    def hidden(self, prompts, completions):
        assert len(prompts) == len(completions)
        return torch.tensor([[float(text.count(letter)) for letter in "abc"] for text in completions])


def test_the_chosen_completions_of_each_prompt_become_demonstrations():
    rows = [said("q", text) for text in ("aaa", "aa", "b", "  ", "cc")] + [said("other", "a")]
    found = diverse(rows, {"encoder": Encoder()}, k=3)
    assert [(one.id, one.demonstration) for one in found] == [("q", "aaa"), ("q", "cc"), ("q", "b"), ("other", "a")]
    for knobs in ({"k": 0}, {"ridge": 0.0}, {"width": 0}):
        with pytest.raises(ConfigError, match="build diverse: k="):
            diverse(rows, {"encoder": Encoder()}, **knobs)
