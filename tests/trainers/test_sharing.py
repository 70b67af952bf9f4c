"""Prompts shared inside the trainers: proved on the run's own rows or refused, and silent groups skipped."""

import io

import pytest
import torch
from accelerate import DistributedType
from peft import LoraConfig, get_peft_model

from rlpost import rows, step
from rlpost.config import build, compose
from rlpost.errors import ModelError, SelfCheckError
from rlpost.kernels import attention, parity, prefix
from rlpost.run.folder import RunFolder
from rlpost.trainers import grpo
from rlpost.trainers.records import pack, unpack
from rlpost.trainers.sharing import Sharing
from tests.kernels import families
from tests.trainers import small
from tests.trainers.test_records import micro_batch

CPU = torch.device("cpu")
SCRIPTED = ["trainer.per_device_train_batch_size=16", "rollout.num_generations=4", "rollout.max_tokens=12"]


def trainer(folder, *overrides, reward="some_groups_alike"):
    """A GRPO trainer on scripted rollouts; the reward is constant in every other group."""
    cfg = compose("grpo", ["model=tiny", "reward=[]", f"run.dir={folder}", *SCRIPTED, *overrides])
    assert not cfg.faults, cfg.faults
    cfg.tree["rollout"]["_target_"] = "tests.trainers.scripted.collect"
    cfg.tree["reward"] = {"scripted": {"_target_": f"tests.trainers.test_sharing.{reward}"}}
    tasks = build(cfg.tree["dataset"])("train")
    parts = grpo.Parts(cfg, tasks)
    run = RunFolder.create(cfg)
    found = grpo.Grpo(build(cfg.tree["model"])(), cfg, grpo._arguments(cfg, run, parts, len(tasks)), tasks, parts)
    found.attach(run)
    return found


def some_groups_alike(rollouts):
    order = list(dict.fromkeys(r.group for r in rollouts))
    return [1.0 if order.index(r.group) % 2 else float(sum(r.tokens) % 7) for r in rollouts]


def all_alike(rollouts):
    return [0.5 for _ in rollouts]


def gradients(one):
    one.model.zero_grad()
    loss = sum(one.micro_loss(one.model, item)[0] for item in one._collect(0)[0])
    loss.backward()
    return float(loss.detach()), {n: p.grad.clone() for n, p in one.model.named_parameters() if p.grad is not None}


def scored_rows(one):
    return sum(len(item.rollouts) for item in one._collect(0)[0])


@pytest.mark.parametrize("recipe", ["grpo", "dapo", "gspo", "dr_grpo"])
@pytest.mark.parametrize("micro", [1, 2])
def test_groups_without_signal_are_skipped_and_the_gradient_is_the_same(recipe, micro, tmp_path, monkeypatch):
    cut = [f"trainer.gradient_accumulation_steps={micro}", f"trainer.per_device_train_batch_size={16 // micro}"]
    thin = trainer(tmp_path / "a", f"recipe={recipe}", *cut)
    assert scored_rows(thin) == 8  # two of four groups
    loss, found = gradients(thin)
    monkeypatch.setattr(step, "silent", lambda scored, method: torch.zeros(len(scored.group), dtype=torch.bool))
    full = trainer(tmp_path / "b", f"recipe={recipe}", *cut)
    assert scored_rows(full) == 16
    expected, gradient = gradients(full)
    assert loss == pytest.approx(expected, abs=1e-6) and max(float(g.abs().max()) for g in gradient.values()) > 1e-4
    for name, value in gradient.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "overrides",
    [
        ["regularizer=[kl_k3]", "regularizer.kl_k3.coef=0.04"],
        ["regularizer=[entropy_bonus]", "regularizer.entropy_bonus.coef=0.01"],
        ["aggregate=local_token_mean"],
    ],
)
def test_nothing_is_skipped_where_a_silent_group_still_counts(overrides, tmp_path):
    assert scored_rows(trainer(tmp_path / "a", *overrides)) == 16


def test_a_regularizer_with_coefficient_zero_does_not_count(tmp_path):
    assert scored_rows(trainer(tmp_path / "a", "regularizer=[kl_k3]", "regularizer.kl_k3.coef=0.0")) == 8


def test_a_step_without_any_signal_has_a_zero_loss_and_gradient(tmp_path):
    one = trainer(tmp_path / "a", reward="all_alike")
    loss, found = gradients(one)
    assert loss == 0.0 and found and all(float(g.abs().max()) == 0.0 for g in found.values())


def sharing(case, **settings):
    from rlpost.likelihood.causal import causal

    return Sharing(case.model, case.encoder, settings, causal)


def test_agreeing_layouts_are_packed_and_leave_no_trace():
    case = families.case("qwen2", exact=False)
    one, state = sharing(case, prefix="auto"), torch.get_rng_state()
    found = one.rows(case.prompts, case.completions, case.mask, CPU)
    assert found.ask.layout is not None and one.reason is None
    assert all(p.grad is None for p in case.model.parameters()) and torch.equal(state, torch.get_rng_state())
    assert one.saved() == pytest.approx(1 - 1 / prefix.ratio(case.prompts, case.completions), abs=0.01)


def _detached(own, kept, *rest):
    return STOCK(own, tuple(x.detach() for x in kept), *rest)


def _one_token_late(own, kept, layout, group, window, scaling):
    return STOCK(tuple(x.roll(1, 2) for x in own), kept, layout, group, window, scaling)


STOCK = attention._completions


class Spread:
    """An accelerator whose parameters lie on several devices."""

    distributed_type = DistributedType.FSDP
    mixed_precision = "bf16"


def test_spread_parameters_are_not_gone_through(monkeypatch):
    from rlpost.likelihood.causal import causal

    monkeypatch.setattr(parity, "gap", lambda *_: pytest.fail("one rank alone went through the parameters"))
    case, told = families.case("llama", exact=False), []
    one = Sharing(case.model, case.encoder, {"prefix": "auto"}, causal, accelerator=Spread())
    one.tell = told.append
    for _ in range(2):
        assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is not None
    assert len(told) == 1 and "could not be checked" in told[0]


def test_rounding_of_mixed_precision_is_no_disagreement():
    from rlpost.likelihood.causal import causal

    class Mixed(Spread):
        distributed_type = DistributedType.NO

    case = families.case("llama", exact=False)
    stock = case.model.forward
    # accelerate wraps the forward of a prepared model like this
    case.model.forward = torch.autocast("cpu", torch.bfloat16)(stock)
    one = Sharing(case.model, case.encoder, {"prefix": "on"}, causal, accelerator=Mixed())
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is not None


@pytest.mark.parametrize("broken", [_detached, _one_token_late])
def test_layouts_that_disagree_are_refused_once(broken, monkeypatch):
    """A detached prompt has the right log-probabilities and wrong gradients."""
    monkeypatch.setattr(attention, "_completions", broken)
    case, told = families.case("llama", exact=False), []
    one = sharing(case, prefix="auto")
    one.tell = told.append
    for _ in range(2):
        assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is None
    assert len(told) == 1 and "gradients by" in told[0]
    with pytest.raises(SelfCheckError, match=r"kernels\.prefix=on: .* set kernels\.prefix=off"):
        sharing(case, prefix="on").rows(case.prompts, case.completions, case.mask, CPU)


def test_new_adapters_whose_first_halves_have_no_gradient_still_show_it(monkeypatch):
    """At the first step every B is 0, and with it the gradient of every A; parameters go A, B, A, B."""
    monkeypatch.setattr(attention, "_completions", _detached)
    case = families.case("llama", exact=False)
    case.model = get_peft_model(case.model, LoraConfig(target_modules="all-linear", r=2))
    trained = [name for name, p in case.model.named_parameters() if p.requires_grad]
    assert len(trained) > parity.PARAMETERS and all("lora_A" in name for name in trained[::4])
    one = sharing(case, prefix="auto")
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is None
    assert one.reason is not None and "gradients by" in one.reason


def test_a_model_that_raises_what_nobody_expects_scores_rows_alone(monkeypatch):
    def odd(*_):
        raise KeyError("cache")

    monkeypatch.setattr(attention, "_completions", odd)
    case = families.case("llama", exact=False)
    one = sharing(case, prefix="auto")
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is None
    assert one.reason is not None and "cannot share prompts" in one.reason


def test_what_passes_in_parts_is_proved_in_parts(monkeypatch):
    seen = []
    pack = prefix.pack
    monkeypatch.setattr(prefix, "pack", lambda *a, at_once, **k: seen.append(at_once) or pack(*a, at_once=at_once, **k))
    case = families.case("llama", exact=False)
    one = sharing(case, prefix="on", completions_at_once=3)
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is not None
    assert seen == [1, 3]


def test_a_model_that_cannot_share_is_refused_or_told():
    case, told = families.case("llama", exact=False), []
    case.model.config.layer_types = ["linear_attention"] * 3
    with pytest.raises(ModelError, match="linear_attention"):
        sharing(case, prefix="on")
    one = sharing(case, prefix="auto")
    one.tell = told.append
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is None
    assert "linear_attention" in told[0]


def test_rows_without_a_common_prompt_are_padded():
    case = families.case("llama", exact=False, sizes=((5,), (4,)))
    one = sharing(case, prefix="auto")
    assert one.rows(case.prompts, case.completions, case.mask, CPU).ask.layout is None
    assert one.saved() == 0.0


@pytest.mark.parametrize("settings", ["kernels.prefix=on", "kernels.completions_at_once=1"])
def test_both_answers_of_a_pair_share_their_prompt(settings, tmp_path):
    cfgs = [small.config("dpo", "trainer.per_device_train_batch_size=4", s) for s in ("kernels.prefix=off", settings)]
    models = [small.trained(cfg, tmp_path / str(i)) for i, cfg in enumerate(cfgs)]
    widths = [len(m.scored_rows(*_pairs(m)).inputs["input_ids"]) for m in models]
    assert widths == [4, 1]
    small.same(*(small.weights(m) for m in models), tolerance=1e-6)


def _pairs(model):
    some = model.rows.rows([0, 1])
    return [row.prompt for row in some] * 2, [row.answers[k] for k in (0, 1) for row in some]


def test_rows_of_a_resumed_cycle_still_share_their_prompt():
    """Media are told apart by their tensors: a copy per row would end the sharing and change the sums."""
    item = micro_batch()
    shared = item.rollouts[0].prompt
    for rollout in item.rollouts:
        rollout.prompt = shared
    buffer = io.BytesIO()
    torch.save(pack(item), buffer)
    buffer.seek(0)
    found = unpack(torch.load(buffer, weights_only=True))
    assert len({prefix.key(r.prompt) for r in found.rollouts}) == 1
    assert rows.MicroBatch(found.rollouts, found.scored, found.counts).counts == item.counts
