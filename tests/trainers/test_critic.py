"""A critic in the GRPO step: what it learns from, on any cut and rank, and through a restart."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from rlpost import step
from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.trainers.critic import explained_variance
from tests import toy
from tests.trainers import scripted
from tests.trainers.test_ranks import apart, train
from tests.trainers.test_streams import trainer

CRITIC = ["advantage=gae_kl", "critic=separate", "critic.learning_rate=0.01", "aggregate=token_mean"]


def learning(place, *overrides, forced=False):
    """A trainer whose critic has a head other than 0, so that its trunk has a gradient too."""
    made = trainer(place, *CRITIC, *overrides)
    if forced:
        made.parts.collect = scripted.forced
    torch.nn.init.normal_(made.critic.network.head.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    return made


def value_gradient(made, items):
    for item in items:
        made.critic.learn(item)
    return {name: p.grad.clone() for name, p in made.critic.own.items()}


def test_two_micro_batches_equal_one(tmp_path):
    whole = learning(tmp_path / "a", "trainer.per_device_train_batch_size=16")
    cut = learning(tmp_path / "b", "trainer.gradient_accumulation_steps=2", "kernels.prefix=off")
    one, two = (value_gradient(made, made.micro_batches(0)) for made in (whole, cut))
    assert apart(one, two) < 1e-6 * max(float(g.abs().max()) for g in one.values()) and len(one) > 5
    # The same number from the critic's own states, token by token: sum over the step of max(...) / 2 over its tokens.
    total, tokens = 0.0, 0
    for item in whole.micro_batches(0):
        old = item.scored.value
        assert torch.equal(torch.isnan(old), ~item.scored.mask)
        error = torch.where(item.scored.mask, item.scored.returns - old, 0.0)
        total, tokens = total + float((error**2).sum()) / 2, tokens + int(item.scored.mask.sum())
        found = whole.critic.learn(item)["value_loss"]
    assert float(found.total) == pytest.approx(total / tokens, rel=1e-5), "before the first update V is the old V"


def test_values_are_those_before_each_token(tmp_path):
    made = learning(tmp_path)
    item = made.micro_batches(0)[0]
    row, network = item.rollouts[1], made.critic.network
    ids, n = torch.tensor([row.prompt.ids + row.tokens]), len(row.tokens)
    states = network.trunk(input_ids=ids).last_hidden_state[0, -n - 1 : -1]
    want = (states @ network.head.weight[0]).detach()
    torch.testing.assert_close(item.scored.value[1, :n], want, atol=1e-5, rtol=0)


def test_given_tokens_teach_the_critic_and_not_the_policy(tmp_path):
    """The first two tokens of every row are given; critic=separate_all looks at them too."""
    made = learning(tmp_path / "a", "critic=separate_all", forced=True)
    item = made.micro_batches(0)[0]
    given = (torch.arange(item.scored.mask.shape[1]) < item.scored.length[:, None]) & ~item.scored.mask
    assert given.sum() >= 4 and torch.isfinite(item.scored.returns[given]).all()
    batch = made._batch(made.model, item)
    value, _ = step.loss(batch, made.parts.method, item.counts)
    gradient = torch.autograd.grad(value, batch.logp)[0]
    assert gradient[given].eq(0).all() and gradient[item.scored.mask].ne(0).all()
    alone = replace(item, scored=replace(item.scored, returns=torch.where(given, item.scored.returns, math.nan)))
    assert max(float(g.abs().max()) for g in value_gradient(made, [alone]).values()) > 0.01
    plain = learning(tmp_path / "b", forced=True).micro_batches(0)[0].scored
    assert torch.isnan(plain.returns[given]).all()


def test_a_step_without_a_token_that_trains_moves_nothing(tmp_path):
    made = learning(tmp_path)
    item = made.micro_batches(0)[0]
    made.critic.learn(item)
    made.critic.step()  # now the optimizer has momentum
    nothing = replace(
        item, scored=replace(item.scored, returns=torch.full_like(item.scored.value, math.nan)),
        counts=replace(item.counts, valued=0),
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in made.critic.own.items()}
    made.critic.learn(nothing)
    made.critic.step()
    assert apart(before, made.critic.own) == 0.0
    made.critic.learn(item)
    made.critic.step()
    assert apart(before, made.critic.own) > 1e-3


def saved(folder, number):
    place = folder / "checkpoints" / f"step-{number:06d}" / "rlpost.pt"
    return torch.load(place, weights_only=True)["extra"]["critic"]


def logged(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [r for r in records if "value_loss" in r]


def test_a_resumed_run_is_bit_equal(tmp_path):
    """The first checkpoint is in the middle of a cycle: two updates on the same rollouts, and old values of before."""
    common = [*CRITIC, "trainer.per_device_train_batch_size=8", "trainer.num_iterations=2", "trainer.max_steps=3"]
    whole = train(tmp_path / "a", *common, "+trainer.keep_checkpoints=9")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "model")
    for number in (2, 3):
        shutil.rmtree(tmp_path / "b" / "checkpoints" / f"step-{number:06d}")
    again = train(tmp_path / "b", *common, f"resume={tmp_path / 'b'}")
    assert apart(whole, again) == 0.0
    one, two = saved(tmp_path / "a", 3), saved(tmp_path / "b", 3)
    assert (
        apart(one["weights"], two["weights"]) == 0.0 and apart(one["weights"], saved(tmp_path / "a", 2)["weights"]) > 0
    )
    for key, state in one["optimizer"]["state"].items():
        assert all(torch.equal(state[name], two["optimizer"]["state"][key][name]) for name in state)
    keep = ("loss", "value_loss", "value_grad_norm", "explained_variance")
    assert [[r.get(k) for k in keep] for r in logged(tmp_path / "a")] == [
        [r.get(k) for k in keep] for r in logged(tmp_path / "b")
    ]


def test_two_ranks_learn_what_one_does(tmp_path):
    one = train(tmp_path / "a", *CRITIC, "trainer.per_device_train_batch_size=16")
    two = train(tmp_path / "b", *CRITIC, "trainer.per_device_train_batch_size=8", ranks=2)
    assert apart(one, two) < 1e-4
    for here, there in zip(logged(tmp_path / "a"), logged(tmp_path / "b"), strict=True):
        for name in ("value_loss", "value_grad_norm", "explained_variance"):
            assert here[name] == pytest.approx(there[name], rel=1e-4), name


def test_explained_variance():
    """Returns 1, 2, 6 have variance 7; what values 1, 1, 4 leave (0, 1, 2) has 1."""
    nan = math.nan
    record = toy.scored(
        torch.zeros(2, 1), torch.tensor([0, 0]), torch.ones(2, 2, dtype=torch.bool), -torch.ones(2, 2),
        value=torch.tensor([[1.0, 1.0], [4.0, nan]]), returns=torch.tensor([[1.0, 2.0], [6.0, nan]]),
    )  # fmt: skip
    assert explained_variance(record) == {"explained_variance": pytest.approx(1 - 1 / 7)}
    assert explained_variance(replace(record, returns=None)) == {}


def test_a_group_without_credit_still_teaches_the_critic():
    record = toy.scored(torch.zeros(2, 1), torch.tensor([0, 1]), torch.ones(2, 2, dtype=torch.bool), -torch.ones(2, 2))
    method = toy.recipe("ppo")
    credit = replace(record, advantage=torch.zeros(2, 2))
    assert step.silent(credit, method).all()
    assert not step.silent(replace(credit, returns=torch.zeros(2, 2)), method).any()


def test_what_is_missing_is_said_before_anything_is_loaded():
    check(compose("grpo", CRITIC))
    with pytest.raises(ConfigError, match="advantage: gae reads 'value', but no critic is picked; set critic=<name>; "):
        check(compose("grpo", ["advantage=gae"]))
    with pytest.raises(ConfigError, match="group_zscore does not read 'value', so nothing says what the critic should"):
        check(compose("grpo", ["critic=separate"]))
    with pytest.raises(ConfigError, match="set replay=null or critic=null"):
        check(compose("grpo", [*CRITIC, "replay=selective"]))
