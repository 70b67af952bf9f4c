"""The eager kernels against float64 log-softmax over all logits at once: values and every gradient."""

import pytest
import torch

from rlpost.kernels import eager

ROWS, WIDTH, WORDS = 7, 6, 13
SETTINGS = [
    {},
    {"temperature": 0.6},
    {"softcap": 1.5},
    {"bias": True},
    {"banned": (0, 5)},
    {"temperature": 1.7, "softcap": 2.0, "bias": True, "banned": (12,)},
]


def inputs(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "hidden": torch.randn(ROWS, WIDTH, generator=rng).requires_grad_(),
        "head": torch.randn(WORDS, WIDTH, generator=rng).requires_grad_(),
        "bias": torch.randn(WORDS, generator=rng).requires_grad_(),
        "tokens": torch.tensor([1, 2, 3, 4, 6, 11, 7]),
    }


def oracle(given, *, temperature=1.0, softcap=None, bias=False, banned=()):
    """Log-probability and entropy by the definition: banned words leave the vocabulary before the softmax."""
    z = given["hidden"].double() @ given["head"].double().T
    if bias:
        z = z + given["bias"].double()
    if softcap:
        z = softcap * torch.tanh(z / softcap)
    allowed = [i for i in range(WORDS) if i not in banned]
    logp = torch.log_softmax(z[:, allowed] / temperature, -1)
    place = torch.tensor([allowed.index(int(t)) for t in given["tokens"]])
    return logp.gather(-1, place[:, None])[:, 0], -(logp.exp() * logp).sum(-1)


def ours(given, *, bias=False, **settings):
    return eager.linear_logp(
        given["hidden"], given["head"], given["tokens"], bias=given["bias"] if bias else None, **settings
    )


@pytest.mark.parametrize("settings", SETTINGS)
def test_values_and_gradients_equal_float64(settings):
    one, two = inputs(), inputs()
    upstream = torch.linspace(-2.0, 3.0, ROWS)
    (logp, entropy), (wanted_logp, wanted_entropy) = ours(one, **settings), oracle(two, **settings)
    torch.testing.assert_close(logp.double(), wanted_logp, atol=1e-5, rtol=0)
    torch.testing.assert_close(entropy.double(), wanted_entropy, atol=1e-5, rtol=0)
    assert logp.dtype == entropy.dtype == torch.float32
    (upstream * logp + upstream.flip(0) * entropy).sum().backward()
    (upstream.double() * wanted_logp + upstream.flip(0).double() * wanted_entropy).sum().backward()
    for name in ("hidden", "head", *(["bias"] if settings.get("bias") else [])):
        assert float(two[name].grad.abs().max()) > 0.1
        torch.testing.assert_close(one[name].grad, two[name].grad, atol=2e-5, rtol=0)


@pytest.mark.parametrize("settings", SETTINGS)
def test_float64_states_are_scored_in_float64(settings):
    given = {name: t.detach().double() if t.is_floating_point() else t for name, t in inputs().items()}
    found, wanted = ours(given, **settings), oracle(given, **settings)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-13, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 3.0, 1e4])
def test_banned_words_leave_finite_gradients_at_any_loss_scale(factor):
    given = inputs()
    _, entropy = ours(given, banned=(0, 5))
    (factor * entropy.sum()).backward()
    _, wanted = oracle(reference := inputs(), banned=(0, 5))
    (factor * wanted.sum()).backward()
    torch.testing.assert_close(given["head"].grad / factor, reference["head"].grad / factor, atol=2e-5, rtol=0)
    assert given["head"].grad[[0, 5]].abs().max() == 0.0


def test_a_banned_token_has_probability_zero_and_the_others_share_its_part():
    given = inputs()
    plain = torch.log_softmax(given["hidden"] @ given["head"].T, -1)
    given["tokens"] = torch.tensor([5, 2, 3, 4, 6, 11, 7])
    logp, _ = ours(given, banned=(5,))
    assert logp[0] == -torch.inf
    wanted = plain[1, 2] - torch.log1p(-plain[1, 5].exp())
    torch.testing.assert_close(logp[1], wanted, atol=1e-5, rtol=0)


def test_extreme_logits_stay_finite():
    given = inputs()
    given["hidden"] = (300.0 * given["hidden"].detach()).requires_grad_()
    logp, entropy = ours(given, temperature=0.1)
    (logp.sum() + 2.0 * entropy.sum()).backward()
    assert torch.isfinite(logp).all() and torch.isfinite(given["hidden"].grad).all()
    assert (entropy >= -1e-3).all() and entropy.max() < 1e-2


def test_no_rows_give_empty_tensors():
    given = inputs()
    logp, entropy = eager.linear_logp(given["hidden"][:0], given["head"], given["tokens"][:0], banned=(1,))
    assert logp.shape == entropy.shape == (0,)
    (logp.sum() + entropy.sum()).backward()
    assert given["head"].grad.abs().max() == 0.0


def test_half_precision_states_are_scored_in_float32():
    given = inputs()
    hidden, head = given["hidden"].detach().bfloat16(), given["head"].detach().bfloat16()
    logp, entropy = eager.linear_logp(hidden, head, given["tokens"])
    logits = torch.nn.functional.linear(hidden, head).float()
    assert logp.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(
        logp, torch.log_softmax(logits, -1).gather(-1, given["tokens"][:, None])[:, 0], atol=1e-5, rtol=0
    )


def reverse_kl(frozen: torch.Tensor, policy: torch.Tensor) -> torch.Tensor:
    p, q = torch.log_softmax(policy, -1), torch.log_softmax(frozen, -1)
    return (p.exp() * (p - q)).sum(-1)


def test_divergence_and_its_gradient_equal_float64():
    """KL(p||q) has the gradient p_v (log p_v - log q_v - KL) with respect to logit v, at temperature tau over tau."""
    policy, other, tau = inputs(), inputs(seed=4), 0.8
    upstream = torch.linspace(0.5, 2.0, ROWS)
    found = eager.linear_divergence(
        policy["hidden"],
        policy["head"],
        other["hidden"].detach(),
        other["head"].detach(),
        divergence=reverse_kl,
        temperature=tau,
    )
    log_p = torch.log_softmax((policy["hidden"].double() @ policy["head"].double().T).detach() / tau, -1)
    log_q = torch.log_softmax((other["hidden"].double() @ other["head"].double().T).detach() / tau, -1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(found.detach().double(), kl, atol=2e-5, rtol=0)
    (upstream * found).sum().backward()
    by_logit = upstream.double()[:, None] * log_p.exp() * (log_p - log_q - kl[:, None]) / tau
    expected = by_logit @ policy["head"].detach().double()
    torch.testing.assert_close(policy["hidden"].grad.double(), expected, atol=1e-4, rtol=1e-5)


def test_divergence_of_no_rows_is_empty():
    given = inputs()
    found = eager.linear_divergence(
        given["hidden"][:0], given["head"], given["hidden"][:0], given["head"], divergence=reverse_kl
    )
    assert found.shape == (0,)
