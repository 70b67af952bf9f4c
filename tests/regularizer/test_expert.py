"""The supervised term on expert tokens."""

import torch

from rlpost.regularizer.expert import expert_nll
from rlpost.sft_loss.token import nll

SOURCE = (("expert", "policy"), ("environment", "expert", "expert"))


def test_only_expert_tokens_are_taught():
    logp = torch.tensor([[-0.5, -1.0, -9.0], [-2.0, -0.25, -0.75]], requires_grad=True)
    found = expert_nll(logp, SOURCE)
    assert found.value.tolist() == [[0.5, 0, 0], [0, 0.25, 0.75]]
    found.value.sum().backward()
    assert logp.grad.tolist() == [[-1, 0, 0], [0, -1, -1]]
    assert found.metrics["expert_nll"].tolist() == [0.5, 0.5]


def test_it_is_sft_on_a_row_of_the_expert_alone():
    logp = torch.tensor([[-0.5, -1.0]])
    assert torch.equal(expert_nll(logp, (("expert", "expert"),)).value, nll(logp).value)
