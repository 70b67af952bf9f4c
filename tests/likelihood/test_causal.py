"""Log-probabilities from inside a model's forward against the log-softmax of its own logits, row by row, unpadded."""

import copy
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rlpost.divergence.full import forward_kl
from rlpost.errors import ModelError
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, head_weight, spread, teach, unwrap
from rlpost.models import tiny
from rlpost.models.encode import completion_mask
from rlpost.models.positions import position_ids
from rlpost.models.roles import with_adapter
from rlpost.models.tiny_video import video_tiny
from rlpost.types import Media, Task

LORA = {"_target_": "peft.LoraConfig", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def text_tasks() -> list[Task]:
    return [Task(str(n), [{"role": "user", "content": "why " * n + "?"}]) for n in (1, 4, 2)]


def video_tasks() -> list[Task]:
    # Four frames at 8 a second: on longer videos transformers' own positions differ from Qwen's (models/positions.py).
    def ask(text: str, *frames: int) -> Task:
        noise = np.random.default_rng(sum(frames)).integers(0, 256, (len(frames), 4, 56, 56, 3))
        media = tuple(Media("video", frames=clip.astype(np.uint8), fps=8.0) for clip in noise)
        content = [*({"type": "video"} for _ in media), {"type": "text", "text": text}]
        return Task(text, [{"role": "user", "content": content}], media=media)

    return [ask("which way does it move ?", 4), ask("how many ?"), ask("what happens first ? A red B blue", 4, 4)]


def bundle_of(name: str):
    return video_tiny(seed=1) if name == "video" else tiny.text(family=name, seed=1)


def batch_of(name: str):
    """A bundle, and inputs of three prompts and completions of uneven lengths, with holes in what trains."""
    bundle = bundle_of(name)
    prompts = [bundle.encoder.prompt(task) for task in (video_tasks() if name == "video" else text_tasks())]
    rng = torch.Generator().manual_seed(2)
    answers = [torch.randint(8, 40, (n,), generator=rng).tolist() for n in (3, 6, 1)]
    mask = completion_mask(answers, [[True] * 3, [False, True, True, False, True, True], [True]])
    inputs = bundle.encoder.collate(prompts, answers)
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    return bundle, prompts, answers, mask, inputs


def alone(bundle, prompt, answer) -> torch.Tensor:
    """Logits of the completion tokens of one row by the model's own forward, without padding or given positions."""
    inputs = bundle.encoder.collate([prompt], [answer])
    return bundle.model(**inputs).logits[0, -len(answer) - 1 : -1].double()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("name", ["llama", "qwen2", "video"])
def test_scores_are_the_log_softmax_of_the_models_own_logits(name, temperature):
    bundle, prompts, answers, mask, inputs = batch_of(name)
    with torch.no_grad():
        wanted = [alone(bundle, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        teach(bundle.model)
        found = causal(bundle.model, Rows(inputs, Ask(mask, temperature, bundle.encoder.suppress)))
    assert found.logp.shape == found.entropy.shape == mask.shape and found.divergence is None
    assert (found.logp[~mask] == 0).all() and (found.entropy[~mask] == 0).all()
    assert found.hidden.shape[0] == int(mask.sum()) and not found.hidden.requires_grad
    for row, (logits, answer) in enumerate(zip(wanted, answers, strict=True)):
        logits[:, bundle.encoder.suppress] = -torch.inf
        logp = torch.log_softmax(logits / temperature, -1)
        entropy = -torch.nan_to_num(logp.exp() * logp).sum(-1)
        trains = mask[row, : len(answer)]
        chosen = logp.gather(-1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(found.logp[row, : len(answer)][trains].double(), chosen[trains], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            found.entropy[row, : len(answer)][trains].double(), entropy[trains], atol=1e-5, rtol=0
        )
    assert found.logp[mask].std() > 0.1


@pytest.mark.parametrize("name", ["llama", "video"])
def test_gradients_equal_those_through_the_logits(name):
    bundle, _, _, mask, inputs = batch_of(name)
    twin = copy.deepcopy(bundle.model)
    teach(bundle.model)
    weights = torch.linspace(-1.0, 1.0, int(mask.sum()))
    found = causal(bundle.model, Rows(inputs, Ask(mask)))
    ((found.logp[mask] + 0.3 * found.entropy[mask]) * weights).sum().backward()
    logp = torch.log_softmax(twin(**inputs).logits[:, -mask.shape[1] - 1 : -1].float(), -1)
    chosen = logp.gather(-1, inputs["input_ids"][:, -mask.shape[1] :, None])[..., 0]
    ((chosen[mask] - 0.3 * (logp.exp() * logp).sum(-1)[mask]) * weights).sum().backward()
    largest = 0.0
    for (key, one), two in zip(bundle.model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=2e-5, rtol=1e-4, msg=key)
        largest = max(largest, float(two.grad.abs().max()))
    assert largest > 1e-2


@pytest.mark.parametrize("name", ["llama", "qwen2", "video"])
def test_teaching_leaves_normal_calls_as_they_are_and_is_idempotent(name):
    bundle, _, _, mask, inputs = batch_of(name)
    with torch.no_grad():
        before = bundle.model(**inputs).logits
        for _ in range(2):
            teach(bundle.model)
            assert torch.equal(bundle.model(**inputs).logits, before)
        labels = bundle.model(**inputs, labels=inputs["input_ids"])
        assert labels.loss > 0 and torch.equal(labels.logits, before)
        once = bundle.model.forward
        teach(bundle.model)
        assert bundle.model.forward is once or bundle.model.forward == once
        assert bundle.model(**inputs, ask=Ask(mask)).logp.shape == (int(mask.sum()),)


@pytest.mark.parametrize("taught_first", [True, False])
@pytest.mark.parametrize("name", ["llama", "video"])
def test_adapters_score_and_get_the_gradient(name, taught_first):
    bundle, _, _, mask, inputs = batch_of(name)
    with torch.no_grad():
        logits = bundle.model(**inputs).logits[:, -mask.shape[1] - 1 : -1]
    before = torch.log_softmax(logits, -1).gather(-1, inputs["input_ids"][:, -mask.shape[1] :, None])[..., 0]
    if taught_first:
        teach(bundle.model)
    wrapped = with_adapter(bundle.model, LORA)
    for key, parameter in wrapped.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.3)
    teach(wrapped)
    found = causal(wrapped, Rows(inputs, Ask(mask)))
    with torch.no_grad():
        logits = wrapped(**inputs).logits[:, -mask.shape[1] - 1 : -1]
        wanted = torch.log_softmax(logits, -1).gather(-1, inputs["input_ids"][:, -mask.shape[1] :, None])[..., 0]
        with wrapped.disable_adapter():
            base = causal(wrapped, Rows(inputs, Ask(mask)))
    torch.testing.assert_close(found.logp[mask], wanted[mask], atol=1e-5, rtol=0)
    torch.testing.assert_close(base.logp[mask], before[mask], atol=1e-5, rtol=0)
    assert (found.logp - base.logp).abs().max() > 1e-2
    found.logp.sum().backward()
    grads = {key: p.grad for key, p in wrapped.named_parameters() if p.requires_grad}
    language = {key for key in grads if "visual" not in key}
    assert len(language) >= 8 and all("lora" in key for key in grads)
    assert all(float(grads[key].abs().max()) > 0 for key in language)


def test_a_divergence_is_taken_against_the_other_models_states():
    bundle, _, _, mask, inputs = batch_of("llama")
    other = bundle_of("llama")
    other.model = tiny.text(family="llama", seed=5).model
    for model in (bundle.model, other.model):
        teach(model)

    with torch.no_grad():
        theirs = causal(other.model, Rows(inputs, Ask(mask, 0.8)))
        q, p = (
            torch.log_softmax(m(**inputs).logits[:, -mask.shape[1] - 1 : -1] / 0.8, -1)
            for m in (bundle.model, other.model)
        )
    wanted = (p.exp() * (p - q)).sum(-1)
    ask = Ask(mask, 0.8, (), forward_kl, theirs.hidden, head_weight(other.model).detach())
    found = causal(bundle.model, Rows(inputs, ask))
    torch.testing.assert_close(found.divergence.detach(), torch.where(mask, wanted, 0.0), atol=1e-5, rtol=0)
    found.divergence.sum().backward()
    assert head_weight(bundle.model).grad.abs().max() > 1e-3 and head_weight(other.model).grad is None


def test_a_model_without_a_head_is_refused():
    with pytest.raises(ModelError, match="LlamaModel has no language-model head"):
        teach(bundle_of("llama").model.model)


def test_spread_puts_values_back_in_row_major_order():
    mask = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    values = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    table = spread(values, mask)
    assert table.tolist() == [[1.0, 0.0, 2.0], [0.0] * 3, [0.0, 3.0, 4.0]]
    (table * torch.arange(9.0).reshape(3, 3)).sum().backward()
    assert values.grad.tolist() == [0.0, 2.0, 7.0, 8.0]


def test_no_token_that_trains_gives_a_table_of_zeros():
    bundle, _, _, mask, inputs = batch_of("llama")
    teach(bundle.model)
    found = causal(bundle.model, Rows(inputs, Ask(torch.zeros_like(mask))))
    assert found.logp.shape == mask.shape and float(found.logp.abs().sum().detach()) == 0.0
    found.logp.sum().backward()


def test_wrappers_are_looked_through():
    model = bundle_of("llama").model
    parallel = SimpleNamespace(module=SimpleNamespace(module=model))
    assert unwrap(parallel) is model and unwrap(with_adapter(model, LORA)) is model


def test_a_model_that_scales_its_logits_after_the_head_is_refused():
    bundle = tiny.text()
    original = bundle.model.forward

    def scaled(self, *args, **inputs):
        out = original(*args, **inputs)
        out.logits = out.logits * 0.5
        return out

    bundle.model.forward = types.MethodType(scaled, bundle.model)
    with pytest.raises(ModelError, match="changes its logits after the language-model head"):
        teach(bundle.model)
