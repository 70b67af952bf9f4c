"""Distillation terms: numbers by hand, the gradient on policy, which rows are left alone."""

import math

import pytest
import torch

from rlpost.regularizer.kl import kl_k1, kl_k2
from rlpost.regularizer.teacher import teacher_k2, teacher_k2_failed, teacher_k2_wrong, teacher_k3
from rlpost.regularizer.teacher_kl import teacher_kl, teacher_kl_failed, teacher_kl_wrong

LOGP = torch.tensor([[0.5, 0.2], [0.4, 0.1], [0.3, 0.6]], dtype=torch.float64).log()
OLD = torch.tensor([[0.25, 0.4], [0.4, 0.2], [0.6, 0.6]], dtype=torch.float64).log()
TEACHER = torch.tensor([[0.25, 0.6], [0.8, 0.1], [0.1, 0.9]], dtype=torch.float64).log()


def gradient(make):
    logp = LOGP.clone().requires_grad_()
    return torch.autograd.grad(make(logp).value.sum(), logp)[0]


def test_value_and_gradient_by_hand():
    # d: log 2, log 1/3; log 1/2, 0; log 3, log 2/3. r: 2, 1/2; 1, 1/2; 1/2, 1.
    d = torch.tensor([[2, 1 / 3], [1 / 2, 1], [3, 2 / 3]], dtype=torch.float64).log()
    r = torch.tensor([[2, 0.5], [1, 0.5], [0.5, 1]], dtype=torch.float64)
    found = teacher_k2(LOGP, OLD, TEACHER)
    torch.testing.assert_close(found.value, r * d**2 / 2)
    torch.testing.assert_close(found.metrics["teacher_gap"], d)
    torch.testing.assert_close(gradient(lambda logp: teacher_k2(logp, OLD, TEACHER)), r * d)


def test_on_policy_it_is_k2_towards_the_teacher():
    torch.testing.assert_close(teacher_k2(LOGP, LOGP, TEACHER).value, kl_k2(LOGP, TEACHER).value)
    torch.testing.assert_close(
        gradient(lambda logp: teacher_k2(logp, LOGP, TEACHER)), gradient(lambda logp: kl_k2(logp, TEACHER))
    )


def test_an_impossible_token_pulls_at_the_limit():
    teacher = torch.tensor([[-math.inf, -50.0]], dtype=torch.float64)
    logp = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    found = teacher_k2(logp, logp.detach(), teacher, limit=7.0)
    torch.testing.assert_close(found.value, torch.full((1, 2), 24.5, dtype=torch.float64))
    pull = torch.autograd.grad(found.value.sum(), logp)[0]
    torch.testing.assert_close(pull, torch.full((1, 2), 7.0, dtype=torch.float64))
    torch.testing.assert_close(teacher_k2(logp, logp, teacher).value.detach()[0, 0].item(), 50.0)


REWARD = torch.tensor([1.0, 0.4, 0.0], dtype=torch.float64)
NONE = torch.full((3,), torch.nan, dtype=torch.float64)  # no reward applies


def test_right_rows_and_solved_groups_are_left_alone():
    every = gradient(lambda logp: teacher_k2(logp, OLD, TEACHER))
    wrong = gradient(lambda logp: teacher_k2_wrong(logp, OLD, TEACHER, REWARD))
    torch.testing.assert_close(wrong, every * torch.tensor([[0.0], [1.0], [1.0]]))
    group = torch.tensor([4, 4, 9])
    failed = gradient(lambda logp: teacher_k2_failed(logp, OLD, TEACHER, REWARD, group))
    torch.testing.assert_close(failed, every * torch.tensor([[0.0], [0.0], [1.0]]))
    for made, rest in ((teacher_k2_wrong, ()), (teacher_k2_failed, (group,))):
        strict = gradient(lambda logp, f=made, x=rest: f(logp, OLD, TEACHER, REWARD, *x, right=-0.5, limit=0.1))
        assert strict.eq(0).all()
        torch.testing.assert_close(gradient(lambda logp, f=made, x=rest: f(logp, OLD, TEACHER, NONE, *x)), every)


P = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
T = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)


def expected(estimate, sampler):
    """The mean gradient, by the logits of a policy P, of an estimate on tokens that `sampler` drew."""
    theta = P.log().requires_grad_()
    logp = torch.log_softmax(theta, -1)
    return torch.autograd.grad((sampler * estimate(logp[None]).value[0]).sum(), theta)[0]


@pytest.mark.parametrize("sampler", [P, torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)])
def test_its_mean_gradient_is_that_of_the_reverse_divergence_also_off_policy(sampler):
    theta = P.log().requires_grad_()
    logp = torch.log_softmax(theta, -1)
    true = torch.autograd.grad((logp.exp() * (logp - T.log())).sum(), theta)[0]
    found = expected(lambda logp: teacher_k2(logp, sampler.log()[None], T.log()[None]), sampler)
    torch.testing.assert_close(found, true, rtol=1e-9, atol=1e-12)
    nothing = expected(lambda logp: kl_k1(logp, T.log()[None]), P)
    assert nothing.abs().max() < 1e-12


def test_k3_by_hand():
    """d as above: exp(-d) is 1/2, 3; 2, 1; 1/3, 3/2."""
    inverse = torch.tensor([[0.5, 3], [2, 1], [1 / 3, 1.5]], dtype=torch.float64)
    r = torch.tensor([[2, 0.5], [1, 0.5], [0.5, 1]], dtype=torch.float64)
    found = teacher_k3(LOGP, OLD, TEACHER)
    torch.testing.assert_close(found.value, r * (inverse - 1 - inverse.log()))
    torch.testing.assert_close(gradient(lambda logp: teacher_k3(logp, OLD, TEACHER)), r * (1 - inverse))
    near, far = torch.tensor([[1e-3]], dtype=torch.float64), torch.tensor([[-90.0]], dtype=torch.float64)
    torch.testing.assert_close(teacher_k3(-near, -near, -2 * near).value, near**2 / 2, rtol=1e-3, atol=0)
    assert torch.isfinite(teacher_k3(far, far, -near).value).all()


def test_the_mean_gradients_are_those_of_both_directions():
    """Over all tokens of a categorical weighed by the policy: k2 is KL(policy || teacher), k3 KL(teacher || policy)."""
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64).log_softmax(0)
    logp = logits.log_softmax(0)
    for term, exact in (
        (teacher_k2, (logp.exp() * (logp - teacher)).sum()),
        (teacher_k3, (teacher.exp() * (teacher - logp)).sum()),
    ):
        value = term(logp[None], logp[None].detach(), teacher[None]).value
        mean = torch.autograd.grad((logp.exp().detach() * value).sum(), logits, retain_graph=True)[0]
        torch.testing.assert_close(mean, torch.autograd.grad(exact, logits, retain_graph=True)[0])


def test_a_divergence_is_left_out_like_k2():
    every = torch.tensor([[0.5, 0.25], [2.0, 1.0], [3.0, 0.125]])
    reward, group = torch.tensor([1.0, 0.4, torch.nan]), torch.tensor([4, 4, 9])
    torch.testing.assert_close(teacher_kl(every).value, every)
    wrong = teacher_kl_wrong(every, reward).value
    torch.testing.assert_close(wrong, every * torch.tensor([[0.0], [1.0], [1.0]]))
    torch.testing.assert_close(
        teacher_kl_wrong(every, reward, right=0.3).value, every * torch.tensor([[0.0], [0], [1]])
    )
    failed = teacher_kl_failed(every, reward, group).value
    torch.testing.assert_close(failed, every * torch.tensor([[0.0], [0.0], [1.0]]))
    assert teacher_kl_failed(every, reward, group, right=1.0).value.equal(every)
