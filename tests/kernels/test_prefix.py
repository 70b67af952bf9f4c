"""A shared prompt gives the log-probabilities and gradients of one row per completion; wrong layouts do not."""

import pytest
import torch

from rlpost.errors import SelfCheckError
from rlpost.kernels import attention, cascade, prefix
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows
from rlpost.models.positions import position_ids
from tests.kernels import families

CPU = torch.device("cpu")
CONTROLS = ["llama", "gemma3", "qwen2_5_vl/video", "qwen3_vl/image"]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    families.exact_vision_rotary(monkeypatch)


def double(rows):
    inputs = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in rows.inputs.items()}
    return Rows(inputs, rows.ask)


def naive(case):
    """One row per completion, prompts padded on the left."""
    inputs = dict(case.encoder.collate(case.prompts, case.completions))
    inputs["position_ids"] = position_ids(case.model, inputs)
    return double(Rows(inputs, Ask(case.mask)))


def shared(case, **ask):
    return double(prefix.pack(case.model, case.encoder, case.prompts, case.completions, case.mask, CPU, **ask))


def scored(case, rows):
    """Log-probabilities and all parameter gradients of a weighted sum of log-probabilities and entropies."""
    case.model.zero_grad()
    found = causal(case.model, rows)
    ((found.logp + 0.3 * found.entropy) * case.weights).sum().backward()
    grads = {n: p.grad.clone() for n, p in case.model.named_parameters() if p.grad is not None}
    return found.logp.detach(), grads


def apart(found, expected):
    """Largest difference of log-probabilities, and of gradients as a share of the largest gradient."""
    assert found[1].keys() == expected[1].keys() and expected[1]
    largest = max(float(g.abs().max()) for g in expected[1].values())
    assert largest > 0.1
    gradient = max(float((found[1][n] - g).abs().max()) for n, g in expected[1].items())
    return float((found[0] - expected[0]).abs().max()), gradient / largest


def checkpointing(case, on):
    case.model.train(on)
    if on:
        case.model.gradient_checkpointing_enable()


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("family", families.FAMILIES)
def test_logp_and_gradients_equal_one_row_per_completion(family, again):
    # Stock eager attention takes its softmax in float32, where a float64 mask is -inf and a row of padding is NaN.
    eager = family.endswith("_eager")
    case = families.case(family, lengths=(17, 17) if eager else (31, 17))
    checkpointing(case, again)
    assert prefix.refusal(case.model) is None
    logp, gradient = apart(scored(case, shared(case)), scored(case, naive(case)))
    assert max(logp, gradient) < (2e-6 if eager else 1e-9)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen2_5_vl/video", "qwen3_vl/image"])
def test_completions_a_few_at_a_time_change_nothing(family, at_once, again):
    case = families.case(family)
    checkpointing(case, again)
    logp, gradient = apart(scored(case, shared(case, at_once=at_once)), scored(case, naive(case)))
    assert logp < 1e-9 and gradient < 1e-9


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2_5_vl/image", "qwen3_vl/video", "gemma3"])
def test_cascade_merged_by_log_sum_exp_is_exact(family, monkeypatch):
    """The form that CUDA runs, over segments on the CPU; gemma3 takes it in its layers without a window."""
    used = []
    monkeypatch.setattr(cascade, "usable", lambda query, value: used.append(1) or True)
    case = families.case(family)
    logp, gradient = apart(scored(case, shared(case)), scored(case, naive(case)))
    assert used and logp < 1e-9 and gradient < 1e-9


@pytest.mark.parametrize("sizes", [((1, 1, 1),), ((4,), (1,), (3, 3)), ((2, 9), (5, 5, 5), (1, 8))])
def test_groups_of_any_size(sizes):
    case = families.case("qwen3", sizes=(*sizes, (6, 4, 5)), lengths=(*(9, 1, 23, 6)[: len(sizes)], 14))
    logp, gradient = apart(scored(case, shared(case)), scored(case, naive(case)))
    assert logp < 1e-9 and gradient < 1e-9


def _positions(case, rows):
    places = rows.inputs["position_ids"]
    return Rows({**rows.inputs, "position_ids": torch.arange(places.shape[-1]).expand(places.shape)}, rows.ask)


def _tokens(case, rows):
    ids = rows.inputs["input_ids"].clone()
    ids[:, rows.ask.layout.prompt_columns :] = ids[:, rows.ask.layout.prompt_columns :].flip(1)
    return Rows({**rows.inputs, "input_ids": ids}, rows.ask)


@pytest.mark.parametrize("broken", [_positions, _tokens])
@pytest.mark.parametrize("family", CONTROLS)
def test_wrong_positions_or_order_are_seen(family, broken):
    case = families.case(family)
    logp, gradient = apart(scored(case, broken(case, shared(case))), scored(case, naive(case)))
    assert logp > 1e-2 and gradient > 1e-2


@pytest.mark.parametrize("family", CONTROLS)
def test_completions_that_see_each_other_are_seen(family, monkeypatch):
    case = families.case(family)
    expected = scored(case, naive(case))

    def one_row(module, query, key, value, layout, *, scaling=None, **_):
        layout.calls += 1
        return attention._sdpa(query, key, value, None, scaling).transpose(1, 2)

    monkeypatch.setattr(attention, "packed", one_row)
    logp, gradient = apart(scored(case, shared(case)), expected)
    assert logp > 1e-2 and gradient > 1e-2


@pytest.mark.parametrize("family", CONTROLS)
def test_detached_prompts_keep_the_logp_but_not_the_gradient(family, monkeypatch):
    """Why log-probabilities alone prove nothing: without the gradient through keys and values they are equal."""
    case = families.case(family)
    expected = scored(case, naive(case))
    stock = attention._completions
    monkeypatch.setattr(
        attention, "_completions", lambda own, kept, *rest: stock(own, tuple(x.detach() for x in kept), *rest)
    )
    logp, gradient = apart(scored(case, shared(case)), expected)
    assert logp < 1e-9 and gradient > 1e-2


@pytest.mark.parametrize("family", ["qwen2_5_vl/video", "qwen2_5_vl/image", "qwen3_vl/image"])
def test_positions_that_count_visual_tokens_are_seen(family):
    """The text after a medium starts past its largest position, not after its number of tokens."""
    case = families.case(family)
    rows = shared(case)
    places, start = rows.inputs["position_ids"].clone(), rows.ask.layout.prompt_columns
    places[..., start:] += 5
    found = scored(case, Rows({**rows.inputs, "position_ids": places}, rows.ask))
    logp, gradient = apart(found, scored(case, naive(case)))
    assert logp > 1e-2 and gradient > 1e-2


@pytest.mark.parametrize("family", ["gemma3", "qwen2_window", "mistral"])
def test_a_forgotten_window_is_seen(family, monkeypatch):
    case = families.case(family)
    expected = scored(case, naive(case))
    stock = attention.packed
    monkeypatch.setattr(attention, "packed", lambda *rest, **how: stock(*rest, **{**how, "sliding_window": 10**6}))
    logp, _ = apart(scored(case, shared(case)), expected)
    assert logp > 1e-2


def test_a_prompt_and_its_media_are_encoded_once():
    case = families.case("qwen2_5_vl/video")
    inputs = shared(case).inputs
    distinct = {id(p): p for p in case.prompts}.values()
    assert inputs["input_ids"].shape == (
        1,
        sum(len(p.ids) for p in distinct) + sum(len(c) - 1 for c in case.completions),
    )
    assert len(inputs["pixel_values_videos"]) == sum(len(p.features["pixel_values_videos"]) for p in distinct)
    tokens, alone = sum(map(len, case.completions)), sum(len(p.ids) for p in case.prompts)
    expected = (alone + tokens) / (sum(len(p.ids) for p in distinct) + tokens)
    assert prefix.ratio(case.prompts, case.completions) == pytest.approx(expected)


def test_models_that_cannot_share_say_why():
    case = families.case("qwen2")
    config = case.model.config
    assert prefix.refusal(case.model) is None
    config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    assert "linear_attention" in prefix.refusal(case.model)
    config.layer_types = ["full_attention"] * 3
    config._attn_implementation = "flex_attention"
    assert "flex_attention" in prefix.refusal(case.model)
    config._attn_implementation = "sdpa"
    case.model.add_module("dropped", torch.nn.Dropout(0.1))
    assert "dropout" in prefix.refusal(case.model)


def test_attention_that_ignores_the_layout_is_refused(monkeypatch):
    case = families.case("llama")
    rows = shared(case)
    monkeypatch.setattr(
        attention, "packed", lambda m, q, k, v, layout, **_: attention._sdpa(q, k, v, None, None).transpose(1, 2)
    )
    with pytest.raises(SelfCheckError, match=r"0 of 3 attention layers .* kernels.prefix=off"):
        causal(case.model, rows)


def test_stock_attention_is_untouched_without_a_layout():
    case = families.case("llama")
    attention.install()
    attention.install()
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    ours = AttentionInterface()["sdpa"]
    assert ours.heeds_layout
    draw = torch.Generator().manual_seed(1)
    query, key, value = (torch.randn(1, h, 5, 4, generator=draw) for h in (4, 2, 2))
    module = case.model.model.layers[0].self_attn
    found, expected = ours(module, query, key, value, None), sdpa_attention_forward(module, query, key, value, None)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
