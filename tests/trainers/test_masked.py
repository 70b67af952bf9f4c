"""A masked-diffusion policy in the real trainer: one set of masks for all policies, new ones per inner iteration."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from rlpost.config import check, compose
from rlpost.errors import ConfigError
from rlpost.execute import execute
from rlpost.likelihood.masked import masked
from tests.trainers.test_ranks import apart
from tests.trainers.test_streams import gradient, trainer

MASKED = ["model=diffusion_tiny", "likelihood=masked", "regularizer=[kl_k3]"]
TWICE = "trainer.num_iterations=2"
WRITES = ["recipe=coupled_grpo", "debug=smoke", "evaluation.tasks=0", TWICE, "reward=[external]"]
WRITES += ["reward.external.path=tests.trainers.test_masked.uneven", "reward.external.style=standard"]


def uneven(completions, **_):
    return [float(sum(map(ord, text)) % 7) for text in completions]


def likelihoods(made):
    """Remembers the seeds that each policy was scored with: (which model, gradient on, seeds)."""
    seen, inner = [], made.parts.likelihood

    def spy(model, rows):
        who = "reference" if model is not made.model else "policy"
        seen.append((who, torch.is_grad_enabled(), rows.ask.seeds))
        return inner(model, rows)

    spy.is_seeded = True
    made.parts.likelihood = spy
    return seen


def test_all_policies_look_at_the_same_masks_and_each_iteration_at_others(tmp_path):
    made = trainer(tmp_path, *MASKED, TWICE, "trainer.per_device_train_batch_size=8")
    seen = likelihoods(made)
    made.model.train()
    for number in range(2):
        [item] = made.micro_batches(number)
        batch = made._batch(made.model, item)
        # Nothing was learnt in between: under the same masks the ratio is 1 and the KL 0, but for rounding.
        torch.testing.assert_close(batch.logp.detach(), batch.old_logp, atol=1e-6, rtol=0)
        torch.testing.assert_close(batch.ref_logp, batch.old_logp, atol=1e-6, rtol=0)
        made.state.global_step += 1
    old, later, *rest = seen
    assert [one[:2] for one in seen] == [("policy", False)] * 2 + [("reference", False), ("policy", True)] * 2
    assert old[2] == rest[0][2] == rest[1][2] and later[2] == rest[2][2] == rest[3][2]
    assert len(set(old[2])) == 8 and not set(old[2]) & set(later[2])
    assert (made._cycle[0][0].logps["old_logp"] - batch.old_logp).abs().max() == 0
    first = masked(made.model, made._rows(item, item.scored.mask)).logp
    made._draw = 0
    assert (first - masked(made.model, made._rows(item, item.scored.mask)).logp).abs().max() > 0.1


def test_the_cut_into_micro_batches_does_not_change_the_gradient(tmp_path):
    whole, _ = gradient(trainer(tmp_path / "a", *MASKED, TWICE, "trainer.per_device_train_batch_size=16"))
    cut = ["trainer.per_device_train_batch_size=4", "trainer.gradient_accumulation_steps=4"]
    parts, _ = gradient(trainer(tmp_path / "b", *MASKED, TWICE, *cut))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=0)
    assert max(float(g.abs().max()) for g in whole.values()) > 1e-4


def test_a_resumed_run_is_bit_equal_and_its_model_is_one_that_unmasks(tmp_path):
    """Stopped after step 1 of a cycle of 2: the second iteration's masks and old log-probabilities come back."""

    def run(place, steps, *overrides):
        more = ["trainer.learning_rate=0.01", "trainer.save_steps=1", f"trainer.max_steps={steps}"]
        execute("grpo", [*WRITES, *more, f"run.dir={tmp_path / place}", *overrides])
        return load_file(tmp_path / place / "model" / "model.safetensors")

    whole, half = run("a", 3), run("c", 1)
    assert apart(whole, half) > 1e-4
    shutil.rmtree(tmp_path / "c" / "model")
    assert apart(whole, run("c", 3, f"resume={tmp_path / 'c'}")) == 0.0
    saved = ["model=hub", f"model.path={tmp_path / 'a' / 'model'}", "model.dtype=float32", "rollout=diffusion"]
    metrics = ["debug=smoke", "metric=[local_ar,global_ar]", f"run.dir={tmp_path / 'b'}"]
    execute("eval", [*saved, *metrics])
    found = json.loads((tmp_path / "b" / "eval.json").read_text())["metrics"]
    assert set(found) == {"local_ar@1", "global_ar@1"} and all(0 <= one["mean"] <= 1 for one in found.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["aux=[expert]", "dataset=arithmetic_sft"], "aux.expert: likelihood=masked draws masks from the seeds"),
        (["rollout.engine=vllm"], "rollout.engine=vllm writes left to right"),
        (["kernels.prefix=on"], "kernels.prefix=on packs rows for left-to-right models"),
        (["token_weight=[tis]"], "token_weight.tis compares 'gen_logp'"),
        (["objective=oapl"], "objective compares 'gen_logp'"),
        (["token_weight=[mask_truncated]"], "token_weight.mask_truncated.renormalise takes tokens out"),
        (["regularizer=[teacher_k2]", "scorer@models.teacher=own"], "regularizer.teacher_k2 reads 'teacher_logp'"),
    ],
)
def test_what_masks_cannot_serve_is_refused_before_anything_is_loaded(overrides, message):
    with pytest.raises(ConfigError) as caught:
        check(compose("grpo", ["model=diffusion_tiny", "likelihood=masked", "rollout=diffusion", *overrides]))
    assert any(message in fault for fault in caught.value.faults), caught.value.faults
    check(compose("grpo", ["model=diffusion_tiny", "likelihood=masked_apart", "rollout=diffusion"]))


@pytest.mark.parametrize("command", ["sft", "dpo"])
def test_pairs_and_demonstrations_have_no_seeds(command):
    with pytest.raises(ConfigError, match="only rollouts of `rlpost grpo` carry; set likelihood=causal"):
        check(compose(command, ["model=diffusion_tiny", "likelihood=masked"]))
