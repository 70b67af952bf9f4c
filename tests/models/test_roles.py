"""Starting weights and the frozen reference: what follows the policy and what must not."""

import copy

import pytest
import torch

from rlpost.errors import ModelError
from rlpost.likelihood.scoring import Ask, teach
from rlpost.models import tiny
from rlpost.models.roles import Reference, start_from, with_adapter
from rlpost.models.tiny_video import video_tiny

LORA = {"_target_": "peft.LoraConfig", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
INPUTS = {"input_ids": torch.tensor([[5, 9, 30, 7], [8, 8, 41, 2]]), "attention_mask": torch.ones(2, 4).long()}
MASK = torch.tensor([[True, True], [False, True]])


def logp(model) -> torch.Tensor:
    with torch.no_grad():
        return model(**INPUTS, ask=Ask(MASK)).logp


def shake(model, size: float = 0.2) -> None:
    """Change every weight that trains, as an optimizer step would."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=rng)


@pytest.mark.parametrize("taught", [True, False])
def test_the_reference_of_a_full_model_does_not_follow_it(taught):
    model = tiny.text(seed=1).model
    if taught:
        teach(model)
    reference = Reference(model)
    teach(model)
    before = logp(model)
    shake(model)
    with reference.use() as frozen:
        assert frozen is not model and torch.equal(frozen(**INPUTS, ask=Ask(MASK)).logp, before)
        assert not torch.is_grad_enabled() and not any(p.requires_grad for p in frozen.parameters())
    assert torch.is_grad_enabled() and all(p.requires_grad for p in model.parameters())
    assert (logp(model) - before).abs().max() > 0.05
    own = {p.data_ptr() for p in model.parameters()}
    assert not own & {p.data_ptr() for p in frozen.parameters()}


def test_the_reference_keeps_its_own_tied_head():
    """A copied forward bound to the policy would score with the policy's weights."""
    model = tiny.text(seed=1).model
    teach(model)
    reference = Reference(model)
    with reference.use() as frozen:
        assert frozen.get_output_embeddings().weight is frozen.get_input_embeddings().weight
        assert frozen.forward.__self__ is frozen and model.forward.__self__ is model
        before = frozen(**INPUTS).logits
    shake(model)
    with reference.use() as frozen:
        assert torch.equal(frozen(**INPUTS).logits, before)


def test_with_adapters_the_reference_is_the_base():
    model = tiny.text(seed=1).model
    teach(model)
    before = logp(model)
    wrapped = with_adapter(model, LORA)
    reference = Reference(wrapped)
    shake(wrapped)
    changed = logp(wrapped)
    assert (changed - before).abs().max() > 0.01
    with reference.use() as frozen:
        assert frozen is wrapped and torch.equal(logp(frozen), before)
    assert torch.equal(logp(wrapped), changed)


@pytest.mark.parametrize("adapter", [False, True])
def test_use_leaves_the_policy_in_its_mode_even_after_an_error(adapter):
    model = tiny.text(seed=1).model
    model = with_adapter(model, LORA if adapter else None)
    reference = Reference(model)
    model.train()
    with reference.use() as frozen:
        assert not frozen.training
    assert model.training
    with pytest.raises(KeyError), reference.use():
        raise KeyError("scoring failed")
    assert model.training and torch.is_grad_enabled()
    with reference.use() as frozen:
        assert not frozen.training


def test_without_peft_the_model_is_itself():
    model = tiny.text().model
    assert with_adapter(model, None) is model and with_adapter(model, {}) is model


def test_adapters_train_alone_and_never_on_the_head():
    wrapped = with_adapter(tiny.text().model, LORA)
    assert {n for n, p in wrapped.named_parameters() if p.requires_grad} == {
        n for n, _ in wrapped.named_parameters() if "lora" in n
    }
    with pytest.raises(ModelError, match="language-model head"):
        with_adapter(tiny.text().model, {**LORA, "target_modules": ["q_proj", "lm_head"]})
    with pytest.raises(ModelError, match=r"peft: .*no_such"):
        with_adapter(tiny.text().model, {**LORA, "target_modules": ["no_such"]})


# --- start_from -----------------------------------------------------------------------------------------------------


def test_nothing_to_start_from():
    bundle = tiny.text()
    model = bundle.model
    assert start_from(bundle, None) is bundle and bundle.model is model


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_full_model_is_loaded(family, tmp_path):
    source, bundle = tiny.text(seed=1, family=family), tiny.text(seed=2, family=family)
    shake(source.model)
    source.model.save_pretrained(tmp_path)
    found = start_from(bundle, tmp_path)
    for one, two in zip(source.model.parameters(), found.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert found.model.dtype == torch.float32 and not found.model.training
    assert found.model.generation_config is not None and found is bundle


def test_an_adapter_is_merged_into_the_weights(tmp_path):
    wrapped = with_adapter(tiny.text(seed=1).model, LORA)
    shake(wrapped)
    with torch.no_grad():
        wanted = wrapped(**INPUTS).logits
        plain = tiny.text(seed=1).model(**INPUTS).logits
    wrapped.save_pretrained(tmp_path)
    found = start_from(tiny.text(seed=1), tmp_path).model
    with torch.no_grad():
        torch.testing.assert_close(found(**INPUTS).logits, wanted, atol=1e-5, rtol=0)
    assert (wanted - plain).abs().max() > 0.01
    assert not any("lora" in name for name, _ in found.named_parameters())
    reference = Reference(found)
    teach(found)
    before = logp(found)
    shake(found)
    with reference.use() as frozen:
        assert torch.equal(logp(frozen), before)


def broken(kind: str, folder):
    if kind == "missing":
        return folder / "nowhere"
    if kind == "file":
        (folder / "a").write_text("x")
        return folder / "a"
    if kind == "config only":
        tiny.text().model.config.save_pretrained(folder)
    if kind == "other family":
        tiny.text(family="qwen2").model.save_pretrained(folder)
    if kind == "fewer weights":
        model = tiny.text().model
        state = {k: v for k, v in model.state_dict().items() if "layers.1.mlp" not in k}
        model.save_pretrained(folder, state_dict=state)
    if kind == "other vocabulary":
        model = copy.deepcopy(tiny.text().model)
        model.resize_token_embeddings(50)
        model.save_pretrained(folder)
    if kind == "adapter of another width":
        with_adapter(tiny.text(hidden=64).model, LORA).save_pretrained(folder)
    if kind == "adapter of other modules":
        from peft import LoraConfig, get_peft_model

        net = torch.nn.Sequential(torch.nn.Linear(3, 3))
        get_peft_model(net, LoraConfig(target_modules=["0"])).save_pretrained(folder)
    if kind == "adapter config only":
        with_adapter(tiny.text().model, LORA).peft_config["default"].save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        "missing", "file", "empty", "config only", "other family", "fewer weights", "other vocabulary",
        "adapter of another width", "adapter of other modules", "adapter config only",
    ],
)  # fmt: skip
def test_a_wrong_folder_is_a_model_error(kind, tmp_path):
    place = broken(kind, tmp_path)
    with pytest.raises(ModelError, match=r"init=.*") as caught:
        start_from(tiny.text(), place)
    assert str(place) in str(caught.value)


def test_a_vision_model_is_loaded_whole(tmp_path):
    source = video_tiny(seed=1)
    source.model.save_pretrained(tmp_path)
    found = start_from(video_tiny(seed=2), tmp_path).model
    assert all(torch.equal(a, b) for a, b in zip(source.model.parameters(), found.parameters(), strict=True))
    with pytest.raises(ModelError, match="qwen2_5_vl"):
        start_from(tiny.text(), tmp_path)


def test_a_reference_that_moves_is_the_weighted_mean_of_the_policies_it_met():
    """From r0: r1 = s r0 + (1 - s) w1 and r2 = s r1 + (1 - s) w2, hence s^2 r0 + s (1 - s) w1 + (1 - s) w2."""
    model = tiny.text(seed=1).model
    reference = Reference(model)
    met = [_weights(model)]
    for _ in range(2):
        shake(model, 0.1)
        met.append(_weights(model))
        reference.move(0.9)
    with reference.use() as frozen:
        for found, start, first, second in zip(_weights(frozen), *met, strict=True):
            torch.testing.assert_close(found, 0.81 * start + 0.09 * first + 0.1 * second, atol=1e-6, rtol=0)
        assert not any(p.requires_grad for p in frozen.parameters())
        assert frozen.get_output_embeddings().weight is frozen.get_input_embeddings().weight
    assert all(torch.equal(a, b) for a, b in zip(_weights(model), met[-1], strict=True)), "the policy stays"


def test_small_shares_add_up_in_bfloat16():
    """0.2% of a difference is below bfloat16's resolution: 300 moves of it must still arrive at 1 - 0.998^300 = 45%."""
    model = tiny.text(seed=1).model.bfloat16()
    reference = Reference(model)
    start = _weights(model)
    shake(model, 0.1)
    for _ in range(300):
        reference.move(0.998)
    with reference.use() as frozen:
        now = _weights(frozen)
    assert {w.dtype for w in now} == {torch.bfloat16}
    gone = sum((a.float() - b.float()).norm() ** 2 for a, b in zip(now, start, strict=True)) ** 0.5
    way = sum((a.float() - b.float()).norm() ** 2 for a, b in zip(_weights(model), start, strict=True)) ** 0.5
    assert gone / way == pytest.approx(1 - 0.998**300, abs=0.01)


def test_a_reference_that_moved_continues_from_its_state():
    model = tiny.text(seed=1).model
    one, two = Reference(model), Reference(model)
    assert one.state() == [], "a reference that stays needs no place in a checkpoint"
    shake(model)
    one.move(0.5)
    two.load_state(one.state())
    shake(model)
    for reference in (one, two):
        reference.move(0.7)
    with one.use() as a, two.use() as b:
        assert all(torch.equal(x, y) for x, y in zip(_weights(a), _weights(b), strict=True))


def test_the_reference_of_an_adapter_cannot_move():
    reference = Reference(with_adapter(tiny.text(seed=1).model, LORA))
    assert not reference.movable and Reference(tiny.text().model).movable
    with pytest.raises(ModelError, match="cannot follow"):
        reference.move(0.9)


def _weights(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]
