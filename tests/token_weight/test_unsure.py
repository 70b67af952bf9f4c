"""Only tokens of which the sampler was unsure train."""

import torch

from rlpost import step
from rlpost.token_weight.unsure import probability_mask
from tests import toy


def test_the_threshold_is_a_probability():
    logp = torch.tensor([[0.3, 0.89], [0.9, 1.0]]).log()
    assert probability_mask(logp, threshold=0.895).tolist() == [[1, 1], [0, 0]]
    assert probability_mask(logp, threshold=0.5).tolist() == [[1, 0], [0, 0]]


def test_its_option_takes_the_others_out_of_the_counts():
    method = toy.recipe("grpo", "token_weight=[probability_mask]", "aggregate=token_mean")
    logp, mask = torch.tensor([[0.3, 0.99, 0.2], [0.95, 0.5, 0.5]]).log(), torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
    record = toy.scored(torch.tensor([[1.0], [0.0]]), torch.tensor([0, 0]), mask, logp)
    credit = step.score(record, method).scored
    assert credit.mask.tolist() == [[True, False, True], [False, True, False]] and step.counts(credit).tokens == 3
