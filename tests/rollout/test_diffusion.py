"""Unmasking against a loop over one row, orders that are what they say, and what the rows carry."""

import random

import pytest
import torch

from rlpost import assemble
from rlpost.config import compose
from rlpost.errors import ConfigError, ModelError
from rlpost.models import tiny
from rlpost.models.tiny_diffusion import diffusion_tiny
from rlpost.rollout.context import Context
from rlpost.rollout.diffusion import Unmasking, diffusion
from rlpost.rollout.engine import Sampling, sample
from rlpost.stack import RewardStack
from rlpost.types import Task

TASKS = [Task(str(n), [{"role": "user", "content": "why " * n + "?"}]) for n in (1, 4)]


def endless():
    """A model whose completions never end early, with a head of its own so that they do not repeat one token."""
    bundle = diffusion_tiny(seed=2)
    head = torch.randn(bundle.model.lm_head.weight.shape, generator=torch.Generator().manual_seed(1))
    bundle.model.lm_head.weight = torch.nn.Parameter(0.3 * head)
    bundle.encoder.stop_ids = [10_000]
    return bundle


def draw(bundle, how, n=1, seed=0, tasks=TASKS):
    prompts = [bundle.encoder.prompt(task) for task in tasks]
    return sample(bundle.model, bundle.encoder, prompts, n, how, torch.Generator().manual_seed(seed))


def naive(bundle, task, width, *, order, per_pass=1):
    """Greedy unmasking of one row, one forward pass over plain ids per pass."""
    prompt, mask = bundle.encoder.prompt(task).ids, bundle.model.config.mask_token_id
    row, rank, logps = [mask] * width, [-1] * width, [0.0] * width
    while -1 in rank:
        with torch.no_grad():
            logits = bundle.model(input_ids=torch.tensor([prompt + row])).logits[0, len(prompt) :].double()
        logits[:, mask] = -1e9
        logp = torch.log_softmax(logits, -1)
        best, token = logp.max(-1)
        negative_entropy = (logp.exp() * logp).sum(-1)
        score = {"confidence": best, "entropy": negative_entropy, "left": -torch.arange(width).double()}[order]
        free = sorted((j for j in range(width) if rank[j] < 0), key=lambda j: -float(score[j]))[:per_pass]
        done = max(rank) + 1
        for k, j in enumerate(sorted(free)):
            row[j], rank[j], logps[j] = int(token[j]), done + k, float(best[j])
    return row, rank, logps


@pytest.mark.parametrize(("order", "steps"), [("confidence", 9), ("entropy", 9), ("left", 9), ("entropy", 3)])
def test_greedy_unmasking_is_the_loop_over_one_row(order, steps):
    bundle = endless()
    found = draw(bundle, Unmasking(max_tokens=9, temperature=0.0, steps=steps, order=order))
    orders = []
    for task, one in zip(TASKS, found, strict=True):
        row, rank, logps = naive(bundle, task, 9, order=order, per_pass=9 // steps)
        assert one.tokens == row and one.info["decode_order"] == rank and one.stop == "length"
        assert one.logp == pytest.approx(logps, abs=1e-5)
        orders.append(rank)
    if order != "left":
        assert all(rank != list(range(9)) for rank in orders), "the order must be one that left to right would not pass"


def test_all_at_once_draws_every_place_from_the_masked_row():
    bundle = endless()
    [first, _] = draw(bundle, Unmasking(max_tokens=6, steps=1))
    prompt, mask = bundle.encoder.prompt(TASKS[0]).ids, bundle.model.config.mask_token_id
    with torch.no_grad():
        logits = bundle.model(input_ids=torch.tensor([prompt + [mask] * 6])).logits[0, -6:]
    logits[:, mask] = -torch.inf
    wanted = torch.log_softmax(logits, -1).gather(-1, torch.tensor(first.tokens)[:, None])[:, 0]
    assert first.logp == pytest.approx(wanted.tolist(), abs=1e-5)
    assert first.info["decode_order"] == list(range(6))


def test_blocks_are_filled_one_after_the_other_and_steps_are_shared_out():
    bundle = endless()
    for one in draw(bundle, Unmasking(max_tokens=10, steps=10, order="random", block=4), n=3):
        rank = one.info["decode_order"]
        assert sorted(rank[:4]) == [0, 1, 2, 3] and sorted(rank[4:8]) == [4, 5, 6, 7] and sorted(rank[8:]) == [8, 9]
    calls = []
    bundle.model.register_forward_hook(lambda *_: calls.append(1))
    draw(bundle, Unmasking(max_tokens=10, steps=5, order="random", block=4))
    assert len(calls) == 2 + 2 + 1  # five passes over blocks of 4, 4 and 2


def test_a_completion_ends_with_its_first_stop_token_and_holds_no_mask():
    bundle = endless()
    bundle.encoder.stop_ids = list(range(10, 60))  # often
    found = draw(bundle, Unmasking(max_tokens=12, steps=12, order="random"), n=40)
    stops = set(bundle.encoder.stop_ids)
    ended = [one for one in found if one.stop == "eos"]
    assert 20 < len(ended) <= 80
    for one in found:
        assert not stops & set(one.tokens[:-1]) and bundle.model.config.mask_token_id not in one.tokens
        assert (one.tokens[-1] in stops) == (one.stop == "eos")
        assert len(one.tokens) == len(one.logp) == len(one.info["decode_order"])
        assert len(one.tokens) == 12 or one.stop == "eos"


def test_passes_end_when_nothing_is_left_to_write_before_the_stop_tokens():
    bundle = endless()
    bundle.encoder.stop_ids = list(range(4, 260))  # at once
    calls = []
    bundle.model.register_forward_hook(lambda *_: calls.append(1))
    found = draw(bundle, Unmasking(max_tokens=12, steps=12, order="left"))
    assert len(calls) == 1 and [len(one.tokens) for one in found] == [1, 1]


def test_a_stop_token_ends_nothing_while_places_before_it_are_masked():
    bundle = endless()
    bundle.encoder.stop_ids = list(range(4, 200))  # most tokens: every row soon has one, somewhere
    for one in draw(bundle, Unmasking(max_tokens=12, steps=12, order="random"), n=10):
        assert one.stop == "eos" and bundle.model.config.mask_token_id not in one.tokens


def test_draws_follow_the_temperature():
    """At the first pass of order left the first token has the model's own distribution: frequencies within 5 sigma."""
    bundle, n = endless(), 4000
    found = draw(bundle, Unmasking(max_tokens=2, steps=1, temperature=1.5), n=n, tasks=TASKS[:1])
    prompt, mask = bundle.encoder.prompt(TASKS[0]).ids, bundle.model.config.mask_token_id
    with torch.no_grad():
        logits = bundle.model(input_ids=torch.tensor([prompt + [mask] * 2])).logits[0, -2]
    logits[mask] = -torch.inf
    p = torch.softmax(logits / 1.5, -1)
    counts = torch.bincount(torch.tensor([one.tokens[0] for one in found]), minlength=len(p)) / n
    assert ((counts - p).abs() <= 5 * (p * (1 - p) / n).sqrt() + 1 / n).all() and p.max() < 0.9


def test_rows_carry_seeds_and_orders_and_prefixes_stay(tmp_path):
    bundle = endless()

    def engine(prompts, n, how):
        return sample(bundle.model, bundle.encoder, prompts, n, how, torch.Generator().manual_seed(0))

    def context():
        return Context(engine, bundle.encoder, RewardStack({}), Sampling(7), 3, random.Random(5))

    rows = diffusion(TASKS, context(), steps=7)
    assert [row.task.id for row in rows] == ["1"] * 3 + ["4"] * 3 and {len(row.tokens) for row in rows} == {7}
    assert len({row.info["mask_seed"] for row in rows}) == 6
    assert [r.info["mask_seed"] for r in rows] == [r.info["mask_seed"] for r in diffusion(TASKS, context(), steps=7)]
    ctx = context()
    ctx.sampling = Unmasking(max_tokens=5, steps=5)
    [row] = ctx.generate(TASKS[:1], 1, prefixes=[[65, 66]])
    assert row.tokens[:2] == [65, 66] and len(row.tokens) == 7 and len(row.info["decode_order"]) == 5


def test_held_out_completions_are_drawn_as_the_rollout_draws():
    tree = compose(
        "grpo", ["model=diffusion_tiny", "rollout=diffusion", "rollout.max_tokens=6", "rollout.block=3"]
    ).tree
    found = assemble.sampling(tree["rollout"])
    assert found == Unmasking(max_tokens=6, steps=6, block=3)
    assert type(assemble.sampling(compose("grpo", []).tree["rollout"])) is Sampling


def test_models_and_orders_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="LlamaForCausalLM writes left to right, and this rollout fills masks"):
        draw(tiny.text(), Unmasking(max_tokens=4))
    with pytest.raises(ModelError, match="reads both ways, so it cannot write left to right; set rollout=diffusion"):
        draw(diffusion_tiny(), Sampling(4))
    with pytest.raises(ConfigError, match="steps=0"):
        Unmasking(steps=0)
    with pytest.raises(ConfigError, match="order='up'"):
        Unmasking(order="up")  # type: ignore[arg-type]
