"""The pure step: the scalar against textbook sums, gradients under any cut, masks, weights, coefficients and credit."""

import math
from dataclasses import replace

import pytest
import torch

from rlpost import step
from rlpost.advantage.group import group_centred
from rlpost.aggregate.means import fixed_length, local_token_mean, row_mean, token_mean
from rlpost.keep.groups import mixed_groups
from rlpost.objective.clipped import gspo, ppo_clip, sequence_clip
from rlpost.objective.soft import cispo
from rlpost.regularizer.kl import kl_k3
from rlpost.step import Method, Term, TokenWeight
from rlpost.types import NT, Loss, Mask
from tests import toy

MASK = torch.tensor(
    [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
).bool()
GROUP = torch.tensor([0, 0, 0, 1, 1, 2])
REWARDS = torch.tensor([[1.0], [0.0], [0.5], [2.0], [1.0], [3.0]])


def linear(logp: NT, advantage: NT) -> Loss:
    """The plainest objective: its value can be summed by hand."""
    return Loss(-advantage * logp, {"surprise": -logp.detach()})


def method(objective=linear, aggregate=row_mean, **more) -> Method:
    return Method(
        **({"advantage": group_centred, "aggregate": aggregate, "objective": Term("objective", objective)} | more)
    )


def numbers(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    old = -torch.rand(6, 5, generator=rng) - 0.1
    return old, old + 0.4 * torch.randn(6, 5, generator=rng)


def credit(how: Method, old: torch.Tensor, **more) -> step.Credit:
    return step.score(toy.scored(REWARDS, GROUP, MASK, old, ref_logp=old - 0.2, **more), how)


def fixed7(mask: Mask, counts: step.Counts) -> torch.Tensor:
    return fixed_length(mask, counts, max_tokens=7)


ADVANTAGE = [0.5, -0.5, 0.0, 0.5, -0.5, 0.0]  # rewards less the means 0.5, 1.5 and 3 of their groups
TEXTBOOK = {  # the same tokens in three published sums; rows have 3, 1, 5, 2, 2 and 4 tokens that train
    row_mean: lambda v: sum(sum(row) / len(row) for row in v) / 6,
    token_mean: lambda v: sum(sum(row) for row in v) / 17,
    fixed7: lambda v: sum(sum(row) for row in v) / (7 * 6),
}


@pytest.mark.parametrize("aggregate", TEXTBOOK, ids=lambda f: f.__name__)
def test_token_weights_are_the_textbook_sums(aggregate):
    old, logp = numbers()
    done = credit(method(aggregate=aggregate), old)
    found, _ = step.loss(toy.batch(done.scored, logp), method(aggregate=aggregate), step.counts(done.scored))
    values = [[-ADVANTAGE[n] * float(logp[n, t]) for t in range(5) if MASK[n, t]] for n in range(6)]
    assert abs(float(found)) > 1e-3
    assert float(found) == pytest.approx(TEXTBOOK[aggregate](values), abs=1e-6)


CUTS = [[[0, 1, 2], [3, 4, 5]], [[3, 4], [0, 1, 2], [5]], [[0, 1, 2, 3, 4], [], [5]]]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("objective", [linear, ppo_clip, gspo, sequence_clip, cispo])
@pytest.mark.parametrize("aggregate", TEXTBOOK, ids=lambda f: f.__name__)
def test_gradients_and_metrics_do_not_depend_on_the_cut(objective, aggregate, cut):
    old, logp = numbers(1)
    how = method(objective, aggregate, regularizer=(Term("kl", kl_k3, 0.3, token_mean),))
    done = credit(how, old)
    counts = step.counts(done.scored, micro_batches=len(cut))
    whole = logp.clone().requires_grad_()
    value, metrics = step.loss(toy.batch(done.scored, whole), how, replace(counts, micro_batches=1))
    expected = torch.autograd.grad(value, whole)[0]
    parts = logp.clone().requires_grad_()
    losses, sums = 0.0, {}
    for rows in cut:
        batch = toy.batch(done.scored, parts[rows], torch.tensor(rows, dtype=torch.long))
        loss, found = step.loss(batch, how, counts)
        losses = losses + loss
        for name, one in found.items():
            old_sum = sums.get(name, step.Summed(0.0, 0.0))
            sums[name] = step.Summed(old_sum.total + one.total, old_sum.count + one.count)
    assert float(losses.detach()) == pytest.approx(float(value.detach()), abs=1e-6)
    torch.testing.assert_close(torch.autograd.grad(losses, parts)[0], expected, atol=1e-7, rtol=1e-5)
    assert expected.abs().max() > 1e-3
    for name, one in metrics.items():
        assert float(sums[name].total / sums[name].count) == pytest.approx(float(one.total / one.count), abs=1e-6), name


def test_metrics_are_means_over_the_tokens_that_train():
    old, logp = numbers()
    done = credit(method(), old)
    loss, found = step.loss(toy.batch(done.scored, logp), method(), step.counts(done.scored))
    assert found["surprise"].count == 17
    assert float(found["surprise"].total) == pytest.approx(-sum(float(x) for x in logp[MASK]), abs=1e-5)
    assert float(found["objective/loss"].total / found["objective/loss"].count) == pytest.approx(float(loss))


def test_metrics_per_row_count_the_rows_that_train():
    def by_row(logp: NT, advantage: NT) -> Loss:
        return Loss(-advantage * logp, {"first": logp.detach()[:, :1], "sum": logp.detach().sum(-1)})

    old, logp = numbers()
    batch = toy.batch(credit(method(), old).scored, logp)
    mask = MASK.clone()
    mask[1] = False
    found = step.loss(replace(batch, mask=mask), method(by_row), step.Counts(6, 16, 3))[1]
    assert found["first"].count == found["sum"].count == 5
    clean = torch.where(mask, logp, 0.0)
    assert float(found["first"].total) == pytest.approx(float(clean[[0, 2, 3, 4, 5], 0].sum()), abs=1e-6)
    assert float(found["sum"].total) == pytest.approx(float(clean.sum()), abs=1e-5)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 1e30])
@pytest.mark.parametrize("field", ["logp", "old_logp", "ref_logp", "advantage", "gen_logp"])
@pytest.mark.parametrize("objective", [linear, ppo_clip, gspo, sequence_clip, cispo])
def test_masked_tokens_get_no_gradient_whatever_they_hold(objective, field, bad):
    def gap(gen_logp: NT, old_logp: NT) -> NT:
        return torch.exp(old_logp - gen_logp)

    old, logp = numbers(2)
    how = method(objective, regularizer=(Term("kl", kl_k3, 0.3),), token_weight={"gap": TokenWeight(gap)})
    done = credit(how, old, gen_logp=old + 0.1)
    batch = toy.batch(done.scored, logp)
    gradients = []
    for filled in (getattr(batch, field), torch.where(MASK, getattr(batch, field), bad)):
        free = logp.clone().requires_grad_()
        given = torch.where(MASK, free, bad) if field == "logp" and gradients else free
        one = replace(batch, logp=given) if field == "logp" else replace(batch, logp=free, **{field: filled})
        value, metrics = step.loss(one, how, step.counts(done.scored))
        gradients.append(torch.autograd.grad(value, free)[0])
        assert all(torch.isfinite(m.total) for m in metrics.values())
    assert gradients[0].abs().max() > 1e-3 and (gradients[0][~MASK] == 0).all()
    torch.testing.assert_close(gradients[1], gradients[0], atol=0, rtol=0)


def test_token_weights_multiply_and_carry_no_gradient():
    def double(logp: NT) -> NT:
        return 2.0 * logp / logp

    def confidence(logp: NT) -> NT:
        return logp.exp()

    old, logp = numbers()
    how = method(token_weight={"double": TokenWeight(double), "confidence": TokenWeight(confidence)})
    done = credit(how, old)
    free = logp.clone().requires_grad_()
    value, _ = step.loss(toy.batch(done.scored, free), how, step.counts(done.scored))
    expected = torch.tensor([[-ADVANTAGE[n] * 2 * float(logp[n, t].exp()) for t in range(5)] for n in range(6)])
    expected = expected * MASK / (MASK.sum(-1, keepdim=True) * 6)
    torch.testing.assert_close(torch.autograd.grad(value, free)[0], expected, atol=1e-7, rtol=1e-5)


def only_long(mask: Mask) -> NT:
    return (mask.sum(-1, keepdim=True) > 1).float().expand(mask.shape)


@pytest.mark.parametrize(("renormalise", "tokens"), [(True, 16), (False, 17)])
def test_renormalise_takes_tokens_out_of_the_counts(renormalise, tokens):
    old, logp = numbers()
    how = method(aggregate=token_mean, token_weight={"long": TokenWeight(only_long, renormalise)})
    done = credit(how, old)
    counts = step.counts(done.scored)
    assert (counts.rows, counts.tokens) == (6, tokens)
    value, _ = step.loss(toy.batch(done.scored, logp), how, counts)
    kept = [-ADVANTAGE[n] * float(logp[n, t]) for n in (0, 2, 3, 4, 5) for t in range(5) if MASK[n, t]]
    assert float(value) == pytest.approx(sum(kept) / tokens, abs=1e-6)


def test_renormalise_needs_a_weight_of_zeros_and_ones():
    def half(mask: Mask) -> NT:
        return 0.5 * mask.float()

    how = method(token_weight={"half": TokenWeight(half, renormalise=True)})
    with pytest.raises(ValueError, match=r"half.*0\.5"):
        credit(how, numbers()[0])


def test_coefficients_and_schedules_scale_their_own_term():
    old, logp = numbers()
    seen = []

    def rising(number: int, progress: float) -> float:
        seen.append((number, progress))
        return 0.1 * number

    def mean_of(**terms):
        how = method(**terms)
        done = credit(how, old)
        value, found = step.loss(toy.batch(done.scored, logp), how, step.counts(done.scored), step=3, progress=0.25)
        return float(value), {k: float(v.total) for k, v in found.items() if k.endswith("/loss")}

    plain, _ = mean_of()
    kl = lambda coef, **more: (Term("kl", kl_k3, coef, **more),)  # noqa: E731
    unit = mean_of(regularizer=kl(1.0))[0] - plain
    assert abs(unit) > 1e-3
    value, parts = mean_of(regularizer=kl(rising))
    assert seen == [(3, 0.25)]
    assert value == pytest.approx(plain + 0.3 * unit, abs=1e-6)
    assert parts == {"objective/loss": pytest.approx(plain), "kl/loss": pytest.approx(0.3 * unit, abs=1e-6)}
    x = (old - 0.2 - logp)[MASK].double()
    by_token = float((x.exp() - x - 1).mean())
    own = mean_of(regularizer=kl(2.0, aggregate=token_mean))[0]
    assert own == pytest.approx(plain + 2.0 * by_token, abs=1e-5)
    halved = replace(method(), objective=Term("objective", linear, 0.5))
    done = credit(halved, old)
    value, _ = step.loss(toy.batch(done.scored, logp), halved, step.counts(done.scored))
    assert float(value) == pytest.approx(0.5 * plain, abs=1e-7)


def test_a_value_per_row_is_spread_with_the_weights_of_its_tokens():
    def by_row(logp: NT, mask: Mask) -> Loss:
        return Loss((logp * mask).sum(-1, keepdim=True))

    old, logp = numbers()
    done = credit(method(by_row), old)
    value, _ = step.loss(toy.batch(done.scored, logp), method(by_row), step.counts(done.scored))
    assert float(value) == pytest.approx(float((logp * MASK).sum()) / 6, abs=1e-6)


def test_local_token_mean_divides_by_the_micro_batches():
    old, logp = numbers()
    how = method(aggregate=local_token_mean)
    done = credit(how, old)
    rows = torch.tensor([3, 4])
    value, _ = step.loss(toy.batch(done.scored, logp[rows], rows), how, step.Counts(6, 17, 3, micro_batches=4))
    tokens = [-ADVANTAGE[n] * float(logp[n, t]) for n in (3, 4) for t in range(5) if MASK[n, t]]
    assert float(value) == pytest.approx(sum(tokens) / 4 / 4, abs=1e-6)


# --- score ----------------------------------------------------------------------------------------------------------


def test_keep_lowers_the_counts_and_credit_is_found_among_the_rest():
    rewards = torch.tensor([[1.0], [1.0], [1.0], [2.0], [1.0], [3.0]])
    how = method(keep={"mixed": mixed_groups})
    done = step.score(toy.scored(rewards, GROUP, MASK, numbers()[0]), how)
    assert done.keep.tolist() == [False, False, False, True, True, False]
    assert step.counts(done.scored) == step.Counts(rows=2, tokens=4, groups=1)
    assert done.scored.group.tolist() == [1, 1] and len(done.shaped) == 6
    torch.testing.assert_close(
        done.scored.advantage, torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.0], [-0.5, -0.5, 0.0, 0.0, 0.0]])
    )


def test_several_keeps_must_all_agree_and_nothing_may_remain():
    def even(group: torch.Tensor) -> torch.Tensor:
        return group % 2 == 0

    def rich(reward: torch.Tensor) -> torch.Tensor:
        return reward > 0.9

    old = numbers()[0]
    both = credit(method(keep={"even": even, "rich": rich}), old)
    assert both.keep.tolist() == [True, False, False, False, False, True]
    none = credit(method(keep={"even": even, "odd": lambda group: group == 1}), old)
    assert step.counts(none.scored) == step.Counts(0, 0, 0) and none.scored.advantage.shape == (0, 5)


def test_shaping_runs_in_order_and_before_keep_and_credit():
    def double(rewards: torch.Tensor) -> torch.Tensor:
        return 2 * rewards

    def one_more(rewards: torch.Tensor) -> torch.Tensor:
        return rewards + 1

    old = numbers()[0]
    shaped = credit(method(shaping={"double": double, "more": one_more}), old)
    assert shaped.shaped[:, 0].tolist() == [3.0, 1.0, 2.0, 5.0, 3.0, 7.0]
    assert shaped.scored.reward.tolist() == shaped.shaped[:, 0].tolist()
    other = credit(method(shaping={"more": one_more, "double": double}), old)
    assert other.shaped[:, 0].tolist() == [4.0, 2.0, 3.0, 6.0, 4.0, 8.0]
    torch.testing.assert_close(other.scored.advantage[:, 0], 2 * torch.tensor(ADVANTAGE) * MASK[:, 0])


def test_weights_add_up_the_columns_that_apply():
    rewards = torch.tensor([[1.0, 10.0], [math.nan, 4.0], [2.0, math.nan], [math.nan, math.nan]])
    assert step.total_reward(rewards, torch.tensor([2.0, 0.5])).tolist() == [7.0, 2.0, 4.0, 0.0]


def test_credit_outside_the_mask_is_zero():
    found = credit(method(), numbers()[0]).scored.advantage
    assert found.shape == MASK.shape and (found[~MASK] == 0).all()
    assert [float(row[m].mean()) for row, m in zip(found, MASK, strict=True)] == pytest.approx(ADVANTAGE)


@pytest.mark.parametrize(
    ("advantage", "said"),
    [
        (lambda rewards: rewards.expand(-1, 3), r"\(6, 3\)"),
        (lambda rewards: torch.ones(4, 5), r"\(4, 5\)"),
        (lambda rewards: torch.where(rewards[:, 0] == 2.0, math.nan, rewards[:, 0]), r"rows \[3\]"),
        (lambda rewards: rewards[:, 0] / (rewards[:, 0] - 3.0), r"rows \[5\]"),
    ],
)
def test_unusable_credit_is_refused(advantage, said):
    with pytest.raises(ValueError, match=said):
        credit(method(advantage=advantage), numbers()[0])


def test_without_an_estimator_every_token_that_trains_has_credit_one():
    assert torch.equal(credit(method(advantage=None), numbers()[0]).scored.advantage, MASK.float())


def test_take_keeps_what_belongs_to_the_columns():
    record = toy.scored(torch.arange(12.0).reshape(6, 2), GROUP, MASK, numbers()[0], weights=[1.0, 3.0])
    for rows in (torch.tensor([4, 0]), torch.tensor([1, 0, 0, 0, 1, 0]).bool()):
        part = step.take(record, rows)
        wanted = [4, 0] if rows.dtype == torch.long else [0, 4]
        assert part.rewards[:, 0].tolist() == [2.0 * n for n in wanted]
        assert part.weights.tolist() == [1.0, 3.0] and part.reward_names == ("r0", "r1")
        assert torch.equal(part.mask, MASK[wanted]) and len(part.role) == len(part.source) == 2
        assert part.old_entropy is None


def test_reads_gathers_the_fields_of_every_part():
    how = method(
        ppo_clip, token_mean, regularizer=(Term("kl", kl_k3, 0.1),), keep={"mixed": mixed_groups},
        token_weight={"long": TokenWeight(only_long)},
    )  # fmt: skip
    assert how.reads() == {
        "logp", "old_logp", "advantage", "ref_logp", "rewards", "weights", "group", "mask", "counts"
    }  # fmt: skip


def test_a_row_without_a_reward_keeps_nan_as_its_reward():
    rewards = torch.tensor([[1.0, math.nan], [math.nan, 2.0], [math.nan, math.nan], [0.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    done = step.score(toy.scored(rewards, GROUP, MASK, numbers()[0], weights=[1.0, 3.0]), method())
    torch.testing.assert_close(
        done.scored.reward, torch.tensor([1.0, 6.0, math.nan, 3.0, 4.0, 8.0]), equal_nan=True, atol=0, rtol=0
    )
