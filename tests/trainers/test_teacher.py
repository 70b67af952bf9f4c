"""A teacher in the GRPO step: what reaches the loss, on micro-batches and through a checkpoint."""

import pytest
import torch

from rlpost.config import check, compose
from rlpost.divergence.top_k import policy_top_k_reverse_kl
from rlpost.errors import ConfigError
from rlpost.models import tiny
from tests.trainers.test_ranks import apart, train
from tests.trainers.test_streams import trainer

TEACHER = [
    "scorer@models.teacher=own",
    "models.teacher.model={_target_: rlpost.models.tiny.text, seed: 7}",
    "regularizer=[teacher_k2]",
]


def test_the_batch_holds_what_the_teacher_says(tmp_path):
    made = trainer(tmp_path / "a", *TEACHER, "trainer.gradient_accumulation_steps=2")
    model = tiny.text(seed=7).model
    items = made.micro_batches(0)
    assert len(items) == 2
    for item in items:
        batch = made._batch(made.model, item)
        for i, rollout in enumerate(item.rollouts):
            ids, n = torch.tensor([rollout.prompt.ids + rollout.tokens]), len(rollout.tokens)
            wanted = torch.log_softmax(model(input_ids=ids).logits[0, -n - 1 : -1], -1).gather(-1, ids[0, -n:, None])
            torch.testing.assert_close(batch.teacher_logp[i, :n], wanted[:, 0].detach(), rtol=1e-4, atol=1e-5)


WHOLE = [*TEACHER[:2], "regularizer=[teacher_kl]", "divergence=policy_top_k_reverse_kl", "divergence.k=5"]


def test_the_batch_holds_the_divergence_to_the_teachers_distribution(tmp_path):
    """On a shared prompt, beside the reference's log-probability: each token from both models' own logits."""
    made = trainer(tmp_path / "a", *WHOLE[:2], "regularizer=[teacher_kl,kl_k3]", *WHOLE[3:])
    made.teacher.scorer._slice = 3  # more than one slice, of unequal widths
    teacher, item = tiny.text(seed=7).model, made.micro_batches(0)[0]
    batch = made._batch(made.model, item)
    assert batch.ref_divergence is None and batch.ref_logp is not None
    for i, rollout in enumerate(item.rollouts):
        ids, n = torch.tensor([rollout.prompt.ids + rollout.tokens]), len(rollout.tokens)
        p, q = (model(input_ids=ids).logits[0, -n - 1 : -1].detach() for model in (teacher, made.model))
        allowed = [k for k in range(q.shape[1]) if k not in made.encoder.suppress]
        want = policy_top_k_reverse_kl(p[:, allowed], q[:, allowed], k=5)
        torch.testing.assert_close(batch.teacher_divergence[i, :n].detach(), want, rtol=1e-4, atol=1e-5)
    assert batch.teacher_divergence.requires_grad


def own_logp(seed, item, i):
    rollout = item.rollouts[i]
    ids, n = torch.tensor([rollout.prompt.ids + rollout.tokens]), len(rollout.tokens)
    logits = tiny.text(seed=seed).model(input_ids=ids).logits[0, -n - 1 : -1]
    return torch.log_softmax(logits, -1).gather(-1, ids[0, -n:, None])[:, 0].detach()


def test_the_teachers_own_base_may_be_the_reference(tmp_path):
    """Policy, teacher and reference are three models; the credit is scale * (teacher - ref) - (old - ref)."""
    base = "models.reference={_target_: rlpost.models.tiny.text, seed: 9}"
    made = trainer(tmp_path, "recipe=g_opd", TEACHER[1], base)
    item = made.micro_batches(0)[0]
    old, teacher, ref = (own_logp(seed, item, 0) for seed in (0, 7, 9))
    n = len(old)
    torch.testing.assert_close(item.scored.ref_logp[0, :n], ref, rtol=1e-4, atol=1e-4)
    want = 1.25 * (teacher - ref) - (old - ref)
    torch.testing.assert_close(item.scored.advantage[0, :n], want, rtol=1e-3, atol=1e-3)


def test_a_told_teacher_and_several_by_task_reach_the_credit(tmp_path):
    told = ["recipe=g_opd", "scorer@models.teacher=told", "advantage=teacher_gain", "dataset=arithmetic_sft"]
    item = trainer(tmp_path / "a", *told).micro_batches(0)[0]
    mask = item.scored.mask
    assert item.scored.advantage[mask].abs().max() > 1e-3, "the same weights, told more"
    assert trainer(tmp_path / "b", "recipe=g_opd").micro_batches(0)[0].scored.advantage.abs().max() < 1e-4
    teachers = "models.teacher.teachers={plus: {_target_: rlpost.models.scorer.local.Local, model: ${model}}}"
    cfg = compose("grpo", ["recipe=g_opd", "scorer@models.teacher=routed", teachers])
    check(cfg)
    assert cfg.tree["models"]["teacher"]["teachers"]["plus"]["model"] == cfg.tree["model"]


def test_a_whole_distribution_needs_one_model_at_hand():
    check(compose("grpo", WHOLE))
    with pytest.raises(ConfigError, match="teacher_kl reads 'teacher_divergence', but no divergence is picked"):
        check(compose("grpo", WHOLE[:3]))
    with pytest.raises(ConfigError, match=r"must be one model of this process; set scorer@models\.teacher=own"):
        check(compose("grpo", ["scorer@models.teacher=stand_in", *WHOLE[2:]]))
    anchored = ["dataset=arithmetic_sft", "aux=[expert]", "aux.expert.loss={_target_: rlpost.sft_loss.token.asft}"]
    with pytest.raises(ConfigError, match="a run has one divergence"):
        check(compose("grpo", [*WHOLE, *anchored]))


def test_neither_the_cut_nor_the_ranks_nor_a_restart_change_the_weights(tmp_path):
    common = [*TEACHER, "regularizer.teacher_k2.coef=1.0"]
    whole = train(tmp_path / "a", *common, "trainer.per_device_train_batch_size=16")
    assert apart(whole, train(tmp_path / "b", *common, "trainer.per_device_train_batch_size=8", ranks=2)) < 1e-6
    plain = train(tmp_path / "c", "trainer.per_device_train_batch_size=16")
    assert apart(whole, plain) > 1e-3


def test_what_is_missing_is_said_before_anything_is_loaded():
    check(compose("grpo", TEACHER))
    with pytest.raises(ConfigError, match="teacher_k2 reads 'teacher_logp', but there is no teacher: scorer@models"):
        check(compose("grpo", TEACHER[2:]))
    with pytest.raises(ConfigError, match=r"temperature 1; set rollout.temperature=1.0"):
        check(compose("grpo", [*TEACHER, "rollout.temperature=0.7"]))
    with pytest.raises(ConfigError, match="advantage reads 'teacher_logp', but there is no teacher"):
        check(compose("grpo", ["advantage=teacher_gain"]))
    with pytest.raises(ConfigError, match="does not provide"):
        check(compose("sft", ["regularizer=[teacher_k2]"]))
