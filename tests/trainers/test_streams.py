"""Auxiliary streams share the optimizer step: what they add, on any cut and rank, and through a restart."""

import json
import shutil

import pytest
import torch

from rlpost.config import check, compose
from rlpost.errors import ConfigError, DataError
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo
from tests.trainers.test_ranks import apart, train

DATA = ["dataset=arithmetic_sft", "dataset.largest=9", "dataset.train_size=32"]  # sums of one digit and of two
EXPERT = [*DATA, "aux=[expert]", "aux.expert.rows=6", "aux.expert.coef=0.3"]


def trainer(place, *overrides, scripted=True):
    """A GRPO trainer that is ready to train, on rollouts that follow from the task."""
    small = ["trainer.per_device_train_batch_size=8", "rollout.num_generations=4", "rollout.max_tokens=8"]
    plain = ["trainer.learning_rate=0.05", "+trainer.optim=sgd", "trainer.max_grad_norm=0.0", "trainer.max_steps=2"]
    cfg = compose("grpo", ["model=tiny", "reward=[]", *small, *plain, f"run.dir={place}", *overrides])
    assert not cfg.faults, cfg.faults
    if scripted:
        cfg.tree["rollout"]["_target_"] = "tests.trainers.scripted.collect"
    cfg.tree["reward"] = {"uneven": {"_target_": "tests.trainers.scripted.uneven"}}
    tasks = grpo.build(cfg.tree["dataset"])("train")
    parts, bundle, folder = grpo.Parts(cfg, tasks), grpo.build(cfg.tree["model"])(), RunFolder.create(cfg)
    made = grpo.Grpo(bundle, cfg, grpo._arguments(cfg, folder, parts, len(tasks)), tasks, parts)
    made.attach(folder, own=cfg.tree["trainer"])
    return made


def gradient(made):
    """The gradient of the first optimizer step and its metrics."""
    made.model.zero_grad()
    metrics = {}
    for item in made.micro_batches(0):
        loss, metrics = made.micro_loss(made.model, item)
        loss.backward()
    return {name: p.grad.clone() for name, p in made.model.named_parameters()}, metrics


def test_the_gradient_is_that_of_the_rollouts_plus_coef_times_the_mean_over_the_demonstrations(tmp_path):
    both, metrics = gradient(trainer(tmp_path / "a", *EXPERT))
    alone, _ = gradient(trainer(tmp_path / "b", *DATA))
    made = trainer(tmp_path / "c", *EXPERT)
    rows = made.micro_batches(0)[0].aux["expert"].rows
    assert len(rows) == 6 and len({len(row.answers[0].tokens) for row in rows}) > 1, "the answers must be uneven"
    made.model.zero_grad()
    total = 0.0
    for row in rows:  # each alone and unpadded, from the model's own logits
        ids = torch.tensor([row.prompt.ids + row.answers[0].tokens])
        n = len(row.answers[0].tokens)
        logp = torch.log_softmax(made.model(input_ids=ids).logits[0, -n - 1 : -1].float(), -1)
        total = total - logp.gather(-1, ids[0, -n:, None]).sum()
    total = total / sum(len(row.answers[0].tokens) for row in rows)
    (0.3 * total).backward()
    for name, p in made.model.named_parameters():
        torch.testing.assert_close(both[name] - alone[name], p.grad, rtol=1e-3, atol=1e-6)
    assert max(float(p.grad.abs().max()) for p in made.model.parameters()) > 1e-2
    assert float(metrics["aux/expert/loss"].total / metrics["aux/expert/loss"].count) == pytest.approx(
        0.3 * float(total.detach()), rel=1e-5
    )


def test_neither_the_cut_nor_the_ranks_change_the_weights(tmp_path):
    """Five rows over four places: uneven, and one more place than rows with three rows."""
    for n in (5, 3):
        common = [*EXPERT, f"aux.expert.rows={n}"]
        whole = train(tmp_path / f"a{n}", *common, "trainer.per_device_train_batch_size=16")
        cut = [*common, "trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=4"]
        half = ["trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=2"]
        assert apart(whole, train(tmp_path / f"b{n}", *cut)) < 1e-6
        assert apart(whole, train(tmp_path / f"c{n}", *common, *half, ranks=2)) < 1e-6
    none = train(tmp_path / "d", *DATA, "trainer.per_device_train_batch_size=16")
    assert apart(whole, none) > 1e-3


def test_a_resumed_run_is_bit_equal(tmp_path):
    """Two streams in orders of their own, from the middle of a cycle of rollouts and across the end of an epoch."""
    common = [
        *EXPERT, "dataset.train_size=8", "trainer.per_device_train_batch_size=8", "trainer.num_iterations=2",
        "trainer.max_steps=5", "aux.second=${aux.expert}", "+trainer.optim=adamw_torch",
    ]  # fmt: skip
    whole = train(tmp_path / "a", *common)
    train(tmp_path / "c", *common, "trainer.max_steps=3")
    shutil.rmtree(tmp_path / "c" / "model")
    resumed = train(tmp_path / "c", *common, f"resume={tmp_path / 'c'}")
    assert apart(whole, resumed) == 0.0
    losses = [
        [(r["aux/expert/loss"], r["aux/second/loss"]) for r in records(tmp_path / name) if "aux/expert/loss" in r]
        for name in "ac"
    ]
    assert losses[0] == losses[1] and len(set(losses[0])) == 5
    assert any(a != b for a, b in losses[0]), "streams of the same tasks have orders of their own"


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_checkpoint_of_other_streams_is_refused(tmp_path):
    made = trainer(tmp_path / "a", *EXPERT)
    state = made.extra_state()["streams"]
    with pytest.raises(ConfigError, match="has the streams expert, this run none"):
        trainer(tmp_path / "b").streams.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"aux.expert.rows=6, not 7"):
        trainer(tmp_path / "c", *EXPERT, "aux.expert.rows=7").streams.load_state_dict(state)


def test_tasks_without_demonstrations_are_an_error_that_names_the_stream(tmp_path):
    with pytest.raises(DataError, match=r"aux.expert: none of the 256 tasks has a demonstration"):
        trainer(tmp_path / "a", "aux=[expert]")
    with pytest.raises(ConfigError, match=r"aux.expert.curriculum looks at the data with a model first"):
        trainer(tmp_path / "c", *EXPERT, "aux.expert.curriculum={_target_: rlpost.curriculum.gain.GainRl}")
    own = "aux.expert.data={_target_: rlpost.dataset.arithmetic.arithmetic_sft, largest: 9}"
    made = trainer(tmp_path / "b", "aux=[expert]", own)
    assert all(task.demonstration == task.answer for task in made.streams.all[0].tasks)


def test_a_reference_is_loaded_where_only_a_stream_reads_it(tmp_path):
    anchored = ["divergence=forward_kl", "aux.expert.loss={_target_: rlpost.sft_loss.token.asft, anchor: 0.5}"]
    made = trainer(tmp_path / "a", *EXPERT, *anchored)
    assert made.reference is not None
    found, metrics = gradient(made)
    assert float(metrics["aux/expert/kl"].total) == pytest.approx(0.0, abs=1e-4)  # the policy is still the reference
    dft = "aux.expert.loss={_target_: rlpost.sft_loss.token.dft}"
    other, _ = gradient(trainer(tmp_path / "b", *EXPERT, dft))
    for name in found:
        torch.testing.assert_close(found[name], other[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("aux.expert.lost=1", r"unknown key 'aux.expert.lost'; did you mean 'loss'\?"),
        ("aux.expert.rows=0", "aux.expert.rows: must be at least 1, not 0"),
        ("aux.expert.coef=much", "aux.expert.coef: must be a number"),
        (
            "aux.expert.loss={_target_: rlpost.objective.clipped.ppo_clip}",
            "a stream of demonstrations does not provide",
        ),
        ("aux.expert.loss={_target_: rlpost.sft_loss.token.asft}", "aux.expert.loss: asft reads 'ref_divergence', but"),
        ("aux.expert.loss.weight2=1", "unknown key 'aux.expert.loss.weight2'"),
        ("aux.expert.data=files", "aux.expert.data is 'files'; pick an option"),
        ("~aux.expert.aggregate", "aux.expert.aggregate is missing"),
        ("aux.expret.rows=1", r"unknown key 'aux.expret'; did you mean 'expert'\?"),
    ],
)
def test_faults_are_said_before_anything_is_loaded(override, said):
    check(compose("grpo", EXPERT))
    with pytest.raises(ConfigError, match=said):
        check(compose("grpo", [*EXPERT, override]))


def test_a_stream_hears_how_the_groups_went(tmp_path):
    """ReLIFT's buffer: both groups of the step count as failed, so their demonstrations are in it; or none does."""
    hardest = [*DATA, "aux=[hardest]", "aux.hardest.rows=2"]
    (item,) = trainer(tmp_path / "a", *hardest, "aux.hardest.curriculum.fail=99.0").micro_batches(0)
    asked, taught = ({tuple(row.prompt.ids) for row in rows} for rows in (item.rollouts, item.aux["hardest"].rows))
    assert asked == taught and len(taught) == 2
    none, metrics = gradient(trainer(tmp_path / "b", *hardest, "aux.hardest.curriculum.fail=-99.0"))
    plain, _ = gradient(trainer(tmp_path / "c", *DATA))
    assert not [name for name in metrics if name.startswith("aux")]
    assert all(torch.equal(none[name], plain[name]) for name in plain)
