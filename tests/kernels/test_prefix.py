"""A shared prompt gives the log-probabilities and gradients of one row per completion; four wrong layouts do not."""

import pytest
import torch

from rlpost.config import build, compose
from rlpost.kernels import prefix
from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, teach
from rlpost.models.encode import completion_mask
from rlpost.models.positions import position_ids
from rlpost.models.tiny import text
from rlpost.types import Task

LENGTHS = (5, 1, 7, 3, 2, 6)


def rows_of(bundle, tasks):
    """Two prompts of uneven length with four and two completions, some tokens masked."""
    draw = torch.Generator().manual_seed(7)
    prompts = [bundle.encoder.prompt(task) for task in tasks]
    owner = [0, 0, 0, 0, 1, 1]
    top = min(bundle.model.config.get_text_config().vocab_size, 90)
    answers = [torch.randint(12, top, (n,), generator=draw).tolist() for n in LENGTHS]
    trains = [[True] * n for n in LENGTHS]
    trains[2][3] = False
    weights = torch.randn(len(LENGTHS), max(LENGTHS), generator=draw, dtype=torch.float64)
    return [prompts[i] for i in owner], answers, completion_mask(answers, trains), weights


def scored(bundle, rows, ask_inputs):
    """Log-probabilities and all parameter gradients of a weighted sum of log-probabilities and entropies."""
    _, _, _, weights = rows
    bundle.model.zero_grad()
    found = causal(bundle.model, ask_inputs)
    ((found.logp + 0.3 * found.entropy) * weights).sum().backward()
    return found.logp.detach(), {n: p.grad.clone() for n, p in bundle.model.named_parameters() if p.grad is not None}


def naive(bundle, rows):
    prompts, answers, mask, _ = rows
    inputs = dict(bundle.encoder.collate(prompts, answers))
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    return Rows(inputs, Ask(mask))


def shared(bundle, rows):
    prompts, answers, mask, _ = rows
    packed = prefix.pack(bundle.model, bundle.encoder, prompts, answers, mask, torch.device("cpu"))
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in packed.inputs.items()}
    return Rows(inputs, Ask(mask, places=packed.places, targets=packed.targets))


def apart(a, b):
    return max(float((a[n] - b[n]).abs().max()) for n in b)


def text_case(family):
    bundle = text(family=family, hidden=32, layers=3)
    tasks = [Task(id=str(i), prompt=[{"role": "user", "content": c}]) for i, c in enumerate(("What is 2 + 3?", "Hi"))]
    return bundle, tasks


def video_case():
    cfg = compose("grpo", ["model=video_tiny", "dataset=clips", "dataset.train=16", "dataset.kinds=[direction,first]"])
    return build(cfg.tree["model"])(), build(cfg.tree["dataset"])("train")[:2]


@pytest.fixture(params=["llama", "qwen2", "video"])
def case(request):
    bundle, tasks = video_case() if request.param == "video" else text_case(request.param)
    bundle.model.double().eval()
    for parameter in bundle.model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(2.0)  # sharper attention: a wrong mask must show
    teach(bundle.model)
    return bundle, rows_of(bundle, tasks)


def test_logp_and_gradients_equal_one_row_per_completion(case):
    bundle, rows = case
    expected, gradients = scored(bundle, rows, naive(bundle, rows))
    found, others = scored(bundle, rows, shared(bundle, rows))
    assert others.keys() == gradients.keys()
    # The norms and rotary tables of the stock modules compute in float32, which bounds the agreement.
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    largest = max(float(g.abs().max()) for g in gradients.values())
    assert apart(others, gradients) < 1e-5 * max(1.0, largest)


@pytest.mark.parametrize("broken", ["positions", "mask", "causal", "order"])
def test_a_wrong_layout_is_seen(case, broken, monkeypatch):
    bundle, rows = case
    expected, _ = scored(bundle, rows, naive(bundle, rows))
    good = shared(bundle, rows)
    inputs = dict(good.inputs)
    start = max(len(p.ids) for p in rows[0])
    if broken == "positions":
        inputs["position_ids"] = inputs["position_ids"] + torch.arange(inputs["position_ids"].shape[-1]) * 2
    elif broken == "mask":
        length = inputs["input_ids"].shape[1]
        inputs["attention_mask"] = torch.ones(length, length, dtype=torch.bool).tril()[None, None].expand(2, 1, -1, -1)
    elif broken == "causal":
        inputs["attention_mask"] = inputs["attention_mask"].clone()
        inputs["attention_mask"][:, :, start:, :start] = False
    else:
        inputs["input_ids"] = inputs["input_ids"].clone()
        inputs["input_ids"][:, start:] = inputs["input_ids"][:, start:].flip(1)
    found, _ = scored(bundle, rows, Rows(inputs, good.ask))
    assert float((found - expected).abs().max()) > 1e-3


def test_a_prompt_is_encoded_once(case):
    bundle, rows = case
    inputs = shared(bundle, rows).inputs
    assert len(inputs["input_ids"]) == 2
    prompts, answers, _, _ = rows
    distinct = sum(len(p.ids) for p in {id(p): p for p in prompts}.values())
    total = sum(len(p.ids) for p in prompts)
    tokens = sum(LENGTHS)
    assert prefix.ratio(prompts, answers) == pytest.approx((total + tokens) / (distinct + tokens))


def test_models_that_cannot_share_say_why():
    bundle, _ = text_case("qwen2")
    assert prefix.refusal(bundle.model) is None
    bundle.model.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    assert "sliding_attention" in prefix.refusal(bundle.model)
