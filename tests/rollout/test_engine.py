"""Sampling against transformers' own generate, exact truncation, and rows that leave without a trace."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from rlpost.likelihood.causal import causal
from rlpost.likelihood.scoring import Ask, Rows, teach
from rlpost.models import tiny
from rlpost.models.encode import Bundle, completion_mask
from rlpost.models.positions import position_ids
from rlpost.models.tiny_video import video_tiny
from rlpost.rollout import engine
from rlpost.rollout.engine import Sampling, sample
from rlpost.types import Media, Prompt, Task

N, TOKENS = 3, 9


def asked(text: str, seed: int = 0) -> Task:
    # Four frames at 8 a second: on longer videos transformers' own positions differ from Qwen's (models/positions.py).
    media = ()
    if seed:
        noise = np.random.default_rng(seed).integers(0, 256, (4, 56, 56, 3)).astype(np.uint8)
        media = (Media("video", frames=noise, fps=8.0),)
    content = [*({"type": m.kind} for m in media), {"type": "text", "text": text}] if media else text
    return Task(text, [{"role": "user", "content": content}], media=media)


def bundle_of(name: str) -> Bundle:
    """A random model whose greedy completions do not repeat one token: the head is not tied to the embedding."""
    if name == "video":
        return video_tiny(seed=2, init_std=0.2)
    bundle = tiny.text(family=name, seed=2)
    head = torch.randn(bundle.model.lm_head.weight.shape, generator=torch.Generator().manual_seed(1))
    bundle.model.lm_head.weight = torch.nn.Parameter(0.3 * head)
    return bundle


def prompts_of(bundle: Bundle) -> list[Prompt]:
    if bundle.encoder.media is None:
        return [bundle.encoder.prompt(asked("why " * n + "?")) for n in (1, 4, 2)]
    return [bundle.encoder.prompt(asked("which way does it move ?", 8)), bundle.encoder.prompt(asked("how ?", 4))]


def endless(bundle: Bundle) -> Bundle:
    """The bundle with a stop token that the vocabulary does not hold."""
    bundle.encoder.stop_ids = [10_000]
    return bundle


def draw(bundle: Bundle, prompts, n: int, how: Sampling, seed: int = 0):
    return sample(bundle.model, bundle.encoder, prompts, n, how, torch.Generator().manual_seed(seed))


def theirs(bundle: Bundle, prompts, **how):
    """transformers' generate on prompts repeated N times, without a stop token; tokens and their log-probabilities."""
    inputs = bundle.encoder.collate([p for p in prompts for _ in range(N)])
    config = GenerationConfig(
        max_new_tokens=TOKENS, eos_token_id=None, pad_token_id=bundle.encoder.pad_id, return_dict_in_generate=True,
        output_scores=True, suppress_tokens=bundle.encoder.suppress or None, **how,
    )  # fmt: skip
    bundle.model.generation_config = config
    found = bundle.model.generate(**inputs, generation_config=config)
    tokens = found.sequences[:, inputs["input_ids"].shape[1] :]
    logp = torch.log_softmax(torch.stack(found.scores, 1), -1).gather(-1, tokens[..., None])[..., 0]
    return tokens.tolist(), logp


@pytest.mark.parametrize("name", ["llama", "qwen2", "video"])
def test_greedy_equals_generate_on_repeated_prompts(name):
    bundle = endless(bundle_of(name))
    prompts = prompts_of(bundle)
    found = draw(bundle, prompts, N, Sampling(TOKENS, temperature=0.0))
    tokens, logp = theirs(bundle, prompts, do_sample=False)
    assert [c.tokens for c in found] == tokens and {c.stop for c in found} == {"length"}
    torch.testing.assert_close(torch.tensor([c.logp for c in found]), logp, atol=1e-4, rtol=0)
    assert len({tuple(row.tolist()) for row in logp}) == len(prompts)  # the prompts matter, the copies do not
    assert len({t for row in tokens for t in row}) > 3


@pytest.mark.parametrize("name", ["llama", "qwen2", "video"])
@pytest.mark.parametrize("temperature", [1.0, 1.6])
def test_the_same_seed_draws_what_generate_draws(name, temperature):
    bundle = endless(bundle_of(name))
    prompts = prompts_of(bundle)
    found = draw(bundle, prompts, N, Sampling(TOKENS, temperature=temperature), seed=11)
    torch.manual_seed(11)
    tokens, logp = theirs(bundle, prompts, do_sample=True, temperature=temperature, top_k=0, top_p=1.0)
    assert [c.tokens for c in found] == tokens
    torch.testing.assert_close(torch.tensor([c.logp for c in found]), logp, atol=1e-4, rtol=0)
    assert len({tuple(t) for t in tokens}) == len(prompts) * N


@pytest.mark.parametrize(("top_k", "top_p"), [(5, 1.0), (0, 0.7), (20, 0.8)])
def test_truncated_draws_are_those_of_generate(top_k, top_p):
    bundle = endless(bundle_of("llama"))
    prompts = prompts_of(bundle)
    found = draw(bundle, prompts, N, Sampling(TOKENS, top_k=top_k, top_p=top_p), seed=4)
    torch.manual_seed(4)
    tokens, _ = theirs(bundle, prompts, do_sample=True, temperature=1.0, top_k=top_k, top_p=top_p)
    assert [c.tokens for c in found] == tokens


@pytest.mark.parametrize("name", ["llama", "qwen2", "video"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 0.9), (0.0, 1.0)])
def test_logp_of_sampling_is_the_logp_of_scoring(name, temperature, top_p):
    bundle = bundle_of(name)
    prompts = prompts_of(bundle)
    free = draw(endless(bundle), prompts, N, Sampling(TOKENS, temperature, top_p), seed=6)
    bundle.encoder.stop_ids = [
        next(t for t in free[0].tokens if t not in free[-1].tokens)
    ]  # so that rows end at different places and some are dropped early
    found = draw(bundle, prompts, N, Sampling(TOKENS, temperature, top_p), seed=6)
    assert len({len(c.tokens) for c in found}) > 1
    answers = [c.tokens for c in found]
    mask = completion_mask(answers, [[True] * len(a) for a in answers])
    inputs = bundle.encoder.collate([p for p in prompts for _ in range(N)], answers)
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    teach(bundle.model)
    with torch.no_grad():
        scored = causal(bundle.model, Rows(inputs, Ask(mask, temperature or 1.0, bundle.encoder.suppress)))
    for row, completion in enumerate(found):
        wanted = scored.logp[row, : len(completion.tokens)]
        torch.testing.assert_close(torch.tensor(completion.logp), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("compact", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("name", ["llama", "video"])
def test_finished_rows_leave_without_changing_the_others(name, compact, monkeypatch):
    """Each row's greedy tokens are those it has alone, whether finished rows are dropped at once, late or never."""
    monkeypatch.setattr(engine, "COMPACT", compact)
    bundle = endless(bundle_of(name))
    prompts = prompts_of(bundle)
    free = draw(bundle, prompts, 1, Sampling(TOKENS, temperature=0.0))
    early = next(t for t in free[0].tokens if t not in free[-1].tokens)
    bundle.encoder.stop_ids = [early, 10_000]
    found = draw(bundle, prompts, 2, Sampling(TOKENS, temperature=0.0))
    for i, whole in enumerate(free):
        end = next((k + 1 for k, t in enumerate(whole.tokens) if t in bundle.encoder.stop_ids), TOKENS)
        for copy in found[2 * i : 2 * i + 2]:
            assert copy.tokens == whole.tokens[:end]
            assert copy.logp == pytest.approx(whole.logp[:end], abs=1e-4)
            assert copy.stop == ("eos" if whole.tokens[end - 1] in bundle.encoder.stop_ids else "length")
    assert found[0].stop == "eos" and len(found[0].tokens) < TOKENS and found[-1].stop == "length"


def test_a_stop_at_the_limit_is_a_stop():
    bundle = endless(bundle_of("llama"))
    prompts = prompts_of(bundle)[:1]
    (whole,) = draw(bundle, prompts, 1, Sampling(4, temperature=0.0))
    bundle.encoder.stop_ids = [whole.tokens[0]]
    assert draw(bundle, prompts, 1, Sampling(1, temperature=0.0))[0].stop == "eos"


def test_suppressed_ids_are_never_sampled():
    bundle = bundle_of("video")
    banned = bundle.encoder.suppress
    logits = torch.full((4000, 12), -3.0)
    logits[:, banned] = 9.0
    generator = torch.Generator().manual_seed(0)
    for how in (Sampling(1), Sampling(1, temperature=0.0), Sampling(1, top_k=3), Sampling(1, top_p=0.5)):
        chosen, logp = engine._choose(logits, how, banned, generator)
        assert not set(chosen.tolist()) & set(banned) and len(banned) == 4
        assert logp.tolist() == pytest.approx([-math.log(8)] * 4000, abs=1e-5)


KNOWN = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [0, 1, 2, 3, 4]),
        (2, 1.0, [1, 3]),
        (5, 1.0, [0, 1, 2, 3, 4]),
        (99, 1.0, [0, 1, 2, 3, 4]),
        (0, 0.39, [1]),
        (0, 0.41, [1, 3]),
        (0, 0.69, [1, 3]),
        (0, 0.84, [1, 3, 4]),
        (0, 0.96, [0, 1, 2, 3, 4]),
        (0, 1e-6, [1]),
        (3, 0.8, [1, 3]),  # 0.4, 0.3 and 0.15 of 0.85: the first two reach 0.82
        (3, 0.83, [1, 3, 4]),
        (1, 0.5, [1]),
    ],
)
def test_truncation_keeps_exactly_the_right_tokens(top_k, top_p, kept):
    found = engine._truncated(KNOWN[None], Sampling(1, top_k=top_k, top_p=top_p))[0]
    assert [i for i, v in enumerate(found.tolist()) if v > -math.inf] == kept
    torch.testing.assert_close(found[kept], KNOWN[kept])


def test_draws_follow_the_truncated_distribution_and_report_the_whole_one():
    logits = KNOWN.expand(20_000, -1)
    chosen, logp = engine._choose(logits, Sampling(1, top_p=0.8), [], torch.Generator().manual_seed(0))
    share = torch.bincount(chosen, minlength=5) / len(chosen)
    torch.testing.assert_close(share, torch.tensor([0.0, 0.4, 0.0, 0.3, 0.15]) / 0.85, atol=0.015, rtol=0)
    torch.testing.assert_close(logp, KNOWN[chosen])


def test_the_model_is_left_in_the_mode_it_was_in_even_after_an_error():
    bundle = bundle_of("llama")
    bundle.model.train()
    draw(bundle, prompts_of(bundle), 1, Sampling(2))
    assert bundle.model.training
    with pytest.raises(AttributeError):
        sample(bundle.model, bundle.encoder, [None], 1, Sampling(2), torch.Generator())
    assert bundle.model.training
    bundle.model.eval()
    draw(bundle, prompts_of(bundle), 1, Sampling(2))
    assert not bundle.model.training


def test_nothing_to_do():
    bundle = bundle_of("llama")
    assert draw(bundle, [], 4, Sampling(2)) == []
    found = draw(bundle, prompts_of(bundle), 2, replace(Sampling(), max_tokens=0))
    assert [c.tokens for c in found] == [[]] * 6


def test_each_prompt_is_encoded_once():
    bundle = endless(bundle_of("video"))
    rows, encoded = [], []
    core, tower = bundle.model.forward, bundle.model.model.visual.forward
    bundle.model.forward = lambda *a, **k: rows.append(k["input_ids"].shape) or core(*a, **k)
    bundle.model.model.visual.forward = lambda *a, **k: encoded.append(1) or tower(*a, **k)
    prompts = prompts_of(bundle)
    draw(bundle, prompts, 5, Sampling(4))
    assert encoded == [1] and rows[0] == (2, max(len(p.ids) for p in prompts)) and rows[1:] == [(10, 1)] * 3
