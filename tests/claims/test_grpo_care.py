"""grpo_care: right answers that follow from their reasoning gain over right answers that do not."""

import pytest
import torch

from rlpost import step
from rlpost.reference.average import moving_average
from tests import toy

SPAN = torch.tensor([-1, 0])  # a thought, then the answer


def credit(name, rewards, likelihood):
    n = len(rewards)
    ref = torch.stack([torch.full((n,), -3.0), likelihood.log()], dim=1)
    mask = torch.ones(n, 2, dtype=torch.bool)
    record = toy.scored(
        rewards[:, None], torch.zeros(n).long(), mask, -torch.ones(n, 2), ref_logp=ref, span=SPAN.expand(n, 2),
        reward_names=("correct",),
    )  # fmt: skip
    return step.score(record, toy.recipe(name)).scored.advantage[:, 0]


def test_of_four_right_answers_the_two_likelier_ones_get_the_credit():
    likelihood = torch.tensor([0.9, 0.8, 0.4, 0.3])
    care = credit("grpo_care", torch.ones(4), likelihood)
    # rewards 1.5, 1.5, 1, 1: sample deviation .2887, so +-.25 / .2888
    assert care.tolist() == pytest.approx([0.8657, 0.8657, -0.8657, -0.8657], abs=1e-3)
    assert credit("grpo", torch.ones(4), likelihood).tolist() == [0] * 4


@pytest.mark.parametrize("seed", range(5))
def test_a_wrong_answer_never_gains(seed):
    rng = torch.Generator().manual_seed(seed)
    rewards, likelihood = torch.tensor([1.0, 0, 1, 0, 0, 1]), torch.randperm(6, generator=rng) / 7 + 0.1
    care, plain = credit("grpo_care", rewards, likelihood), credit("grpo", rewards, likelihood)
    wrong = rewards == 0
    assert (care[wrong] < 0).all() and len(care[wrong].unique()) == 1
    assert care[~wrong].max() > care[~wrong].min() and len(plain[~wrong].unique()) == 1


class Policy:
    """Two thoughts, then one of two answers given the thought: answer 0 is right, likelier after thought 0."""

    def __init__(self):
        self.thought = torch.zeros(2)
        self.answer = torch.tensor([[0.75, 0.25], [0.55, 0.45]]).log()

    def logp(self, tokens):
        chosen = torch.log_softmax(self.thought, -1)[tokens[:, 0]]
        said = torch.log_softmax(self.answer, -1)[tokens[:, 0], tokens[:, 1]]
        return torch.stack([chosen, said], dim=1)


def trained(name, seed, steps=120, groups=4, n=8, lr=0.5):
    """The policy after training beside a slow reference, as the recipe has it."""
    torch.manual_seed(seed)
    policy, slow, method = Policy(), Policy(), toy.recipe(name)
    tables = [policy.thought.requires_grad_(), policy.answer.requires_grad_()]
    optimizer = torch.optim.SGD(tables, lr=lr)
    for i in range(steps):
        share = moving_average(i)
        with torch.no_grad():
            for old, new in zip((slow.thought, slow.answer), tables, strict=True):
                old.lerp_(new, 1 - share)
            first = torch.distributions.Categorical(logits=policy.thought).sample((groups * n,))
            tokens = torch.stack([first, torch.distributions.Categorical(logits=policy.answer[first]).sample()], dim=1)
            old, ref = policy.logp(tokens), slow.logp(tokens)
        right, group = (tokens[:, 1:] == 0).float(), torch.arange(groups).repeat_interleave(n)
        record = toy.scored(
            right, group, torch.ones_like(tokens, dtype=torch.bool), old, tokens=tokens, ref_logp=ref,
            span=SPAN.expand(len(tokens), 2), reward_names=("correct",),
        )  # fmt: skip
        credit = step.score(record, method).scored
        optimizer.zero_grad()
        step.loss(toy.batch(credit, policy.logp(tokens)), method, step.counts(credit))[0].backward()
        optimizer.step()
    right = policy.answer.detach().softmax(-1)[:, 0]
    thought = policy.thought.detach().softmax(-1)
    return thought[0].item(), float((thought * right).sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_supporting_thought_wins_where_grpo_is_content_with_right_answers(seed):
    (care, accuracy), (plain, baseline) = trained("grpo_care", seed), trained("grpo", seed)
    assert care > plain + 0.1, (care, plain)
    assert accuracy > baseline - 0.03, (accuracy, baseline)
