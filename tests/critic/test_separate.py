"""The critic's loss by hand, what it looks at, and a network that starts as the policy's trunk under zeros."""

import pytest
import torch

from rlpost.critic.separate import Network, Separate, clipped_error
from rlpost.errors import ConfigError
from rlpost.likelihood.scoring import Ask, Rows
from rlpost.models import tiny


def test_the_worse_of_both_errors_counts():
    """clip .5. Moved by .25: 1.25^2/2. From 0 to 2, target 3: held at .5, 2.5^2/2. To -1, target 1: 2^2/2."""
    value = torch.tensor([[1.25, 2.0, -1.0]], requires_grad=True)
    old, returns = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 1.0]])
    loss = clipped_error(value, old, returns, clip=0.5)
    torch.testing.assert_close(loss.value, torch.tensor([[1.25**2 / 2, 2.5**2 / 2, 2.0]]), atol=1e-7, rtol=0)
    assert loss.metrics["value_clipped"].tolist() == [[0.0, 1.0, 0.0]]
    gradient = torch.autograd.grad(loss.value.sum(), value)[0]
    assert gradient.tolist() == [[1.25, 0.0, -2.0]], "a value that is held does not move further"
    free = clipped_error(value, old, returns, clip=float("inf")).value
    torch.testing.assert_close(free, (value - returns) ** 2 / 2)


def test_what_it_looks_at():
    mask = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    length = torch.tensor([4, 3, 2])
    assert torch.equal(Separate().looks_at(mask, length), mask)
    every = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]).bool()
    assert torch.equal(Separate(tokens="all").looks_at(mask, length), every)


def test_a_new_network_is_the_policys_trunk_under_zeros():
    bundle = tiny.text(seed=3)
    network = Network(bundle.model)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    mask = torch.tensor([[True, False, True, True]])
    rows = Rows({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, Ask(mask))
    assert network(rows).tolist() == [0.0, 0.0, 0.0]
    torch.nn.init.normal_(network.head.weight, generator=torch.Generator().manual_seed(0))
    states = bundle.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    want = states[[1, 3, 4]] @ network.head.weight[0]  # before tokens 2, 4 and 5 of the row
    torch.testing.assert_close(network(rows), want, atol=1e-6, rtol=0)
    network(rows).sum().backward()
    assert all(p.grad is None for p in bundle.model.parameters())


def test_knobs_without_sense_are_refused():
    with pytest.raises(ConfigError, match="must be above 0"):
        Separate(clip=0.0)
