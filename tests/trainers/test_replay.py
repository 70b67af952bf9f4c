"""The seam of replay: rows come back with the credit and the log-probabilities of their step, and survive a restart."""

import json
import random
import shutil
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from rlpost.trainers.replay import Pool, Replay, beside
from rlpost.types import Prompt, Rollout, Scored, Task
from tests import toy
from tests.trainers import two_ranks
from tests.trainers.test_ranks import COMMON as RANKS
from tests.trainers.test_ranks import apart, train
from tests.trainers.test_streams import trainer


def rollout(name: str, tokens: int) -> Rollout:
    prompt = Prompt([1, 2], [0, 1], {"pixel_values": torch.full((2, 3), float(tokens))})
    flat = [[True] * tokens, [-0.5] * tokens]
    return Rollout(Task(name, ()), name, prompt, list(range(tokens)), *flat, name, "eos", source=["policy"] * tokens)


def pool(*rows, rank=0, spans=0) -> Pool:
    """Rows given as (tokens, group, advantage), whose old_logp is -advantage."""
    n, lengths = len(rows), torch.tensor([row[0] for row in rows], dtype=torch.long)
    width = int(lengths.max()) if n else 0
    mask = torch.arange(width) < lengths[:, None]
    advantage = torch.tensor([float(row[2]) for row in rows])[:, None].expand(n, width) * mask
    scored = toy.scored(
        torch.ones(n, 2), torch.tensor([row[1] for row in rows]), mask, -advantage, advantage=advantage,
        reward=torch.ones(n), span_rewards=torch.ones(n, spans, 2), role=("rethought",) * n,
    )  # fmt: skip
    return Pool(scored, [rank] * n, [rollout(f"r{row[0]}", row[0]) for row in rows])


class Everything:
    """A plan that trains on the whole buffer beside the fresh rows, and holds every row."""

    def pick(self, fresh, stored, rng):
        return list(range(len(fresh.mask))), list(range(len(stored.mask)))

    def hold(self, fresh, stored):
        return self.pick(fresh, stored, None)


def test_tables_of_other_widths_stand_side_by_side():
    one, other = pool((2, 0, 0.5), (1, 3, -1.0), spans=1), pool((4, 0, 0.25), (3, 0, 2.0), rank=1, spans=2)
    both = beside(one, other)
    assert both.scored.group.tolist() == [0, 3, 4, 4] and both.rank_of == [0, 0, 1, 1]
    assert both.scored.advantage.tolist() == [[0.5, 0.5, 0, 0], [-1, 0, 0, 0], [0.25] * 4, [2, 2, 2, 0]]
    assert both.scored.mask.sum(1).tolist() == both.scored.length.tolist() == [2, 1, 4, 3]
    assert both.scored.span[0].tolist() == [-1] * 4 and both.scored.span_rewards[0, 1].isnan().all()
    assert len(both.scored.source) == len(both.scored.role) == 4 and both.scored.weights.tolist() == [1, 1]
    sized = {f.name for f in fields(Scored) if getattr(both.scored, f.name) is not None} - {"weights", "reward_names"}
    assert all(len(getattr(both.scored, name)) == 4 for name in sized)
    assert beside(one, other.take([])).scored.group.tolist() == [0, 3]
    assert beside(one.take([]), other).scored.group.tolist() == [0, 0]


def test_a_row_comes_back_with_what_it_had():
    replay, rng = Replay(Everything()), random.Random(0)
    first, share = replay.mix(pool((2, 0, 0.5)), 3, rng)
    assert share == 0.0 and first.scored.source == (("policy",) * 2,)
    second, share = replay.mix(pool((3, 0, -1.0)), 5, rng)
    assert share == 0.5 and second.scored.age.tolist() == [0, 2]
    assert second.scored.advantage[1].tolist() == [0.5, 0.5, 0.0]
    assert second.scored.old_logp[1].tolist() == [-0.5, -0.5, 0.0]
    assert second.scored.source[1] == ("replay", "replay") and second.scored.role[1] == "rethought"
    assert second.rollouts[1].text == "r2" and second.rollouts[1].prompt.features["pixel_values"].shape == (2, 3)
    third, share = replay.mix(pool((1, 0, 2.0)), 6, rng)
    assert share == pytest.approx(2 / 3) and third.scored.age.tolist() == [0, 3, 1]
    assert len(third.scored.group.unique()) == 3, "groups of different steps stay apart"
    assert replay.stored.scored.source == (("policy",) * 2, ("policy",) * 3, ("policy",))


def test_the_buffer_survives_a_checkpoint(tmp_path):
    replay, other, rng = Replay(Everything()), Replay(Everything()), random.Random(0)
    replay.mix(pool((2, 0, 0.5), (3, 1, 1.0), spans=2), 3, rng)
    torch.save(replay.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    fresh = pool((1, 0, 2.0), spans=2)
    (one, _), (two, _) = replay.mix(fresh, 5, rng), other.mix(fresh, 5, rng)
    for spec in fields(Scored):
        a, b = getattr(one.scored, spec.name), getattr(two.scored, spec.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, spec.name
    assert one.rank_of == two.rank_of and [r.tokens for r in one.rollouts] == [r.tokens for r in two.rollouts]
    pictures = [[r.prompt.features["pixel_values"] for r in mixed.rollouts] for mixed in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*pictures, strict=True))
    other.load_state_dict({})
    assert other.stored is None


def test_a_run_trains_on_old_rows_against_their_old_log_probabilities(tmp_path):
    """A second step without any signal, after the policy moved: it trains on the first one's rows as they were."""
    made = trainer(tmp_path, "replay=selective", "advantage=group_centred", "trainer.per_device_train_batch_size=8")
    (first,) = made.micro_batches(0)
    held = made.replay.stored
    assert len(first.rollouts) == 4 == len(held.rollouts), "half of 8 rows, all of which have an advantage"
    batch = made._batch(made.model, first)
    torch.testing.assert_close(batch.old_logp, batch.logp.detach(), rtol=0, atol=1e-4)
    with torch.no_grad():
        for p in made.model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    made.parts.method = replace(made.parts.method, advantage=lambda rewards: torch.zeros(len(rewards)))
    made.state.global_step = 1
    (second,) = made.micro_batches(1)
    assert len(second.rollouts) == 4 and set(second.scored.age.tolist()) == {1}
    assert set(second.scored.source[0]) == {"replay"}
    batch = made._batch(made.model, second)
    assert (batch.old_logp - batch.logp.detach())[batch.mask].abs().max() > 0.1
    known = {tuple(r.tokens): held.scored.old_logp[i, : len(r.tokens)] for i, r in enumerate(held.rollouts)}
    for i, one in enumerate(second.rollouts):
        torch.testing.assert_close(batch.old_logp[i, : len(one.tokens)], known[tuple(one.tokens)])
    loss, _ = made.micro_loss(made.model, second)
    loss.backward()
    assert max(float(p.grad.abs().max()) for p in made.model.parameters() if p.grad is not None) > 0


# Half as many rows again as the step has, so that every step but the first replays.
COMMON = ["replay=selective", "replay.batch=1.5", "advantage=group_centred", "dataset.train_size=8"]


def test_a_resumed_run_is_bit_equal(tmp_path):
    common = [*COMMON, *RANKS, "trainer.per_device_train_batch_size=8"]
    two_ranks.main(str(tmp_path / "a"), *common, "trainer.max_steps=4")
    two_ranks.main(str(tmp_path / "b"), *common, "trainer.max_steps=2")
    shutil.rmtree(tmp_path / "b" / "model")
    two_ranks.main(str(tmp_path / "b"), *common, "trainer.max_steps=4", f"resume={tmp_path / 'b'}")
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in "ab"]
    assert apart(*weights) == 0.0
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["replayed"] for line in lines if "replayed" in line] == pytest.approx([0.0, *[1 / 3] * 3])


def test_ranks_do_not_matter(tmp_path):
    whole = train(tmp_path / "a", *COMMON, "trainer.per_device_train_batch_size=16")
    ranks = train(tmp_path / "b", *COMMON, "trainer.per_device_train_batch_size=8", ranks=2)
    assert apart(whole, ranks) < 1e-6
