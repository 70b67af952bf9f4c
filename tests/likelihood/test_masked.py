"""The masked likelihood against the model's own logits under masks drawn by hand, row by row and without padding."""

import math
import random
from dataclasses import replace

import pytest
import torch

from rlpost.divergence.full import forward_kl
from rlpost.errors import ConfigError, ModelError
from rlpost.likelihood.causal import causal
from rlpost.likelihood.masked import masked, masked_apart
from rlpost.likelihood.scoring import Ask, Rows, against, teach
from rlpost.likelihood.seeds import seed_of
from rlpost.models import tiny
from rlpost.models.encode import completion_mask
from rlpost.models.positions import position_ids
from rlpost.models.tiny_diffusion import diffusion_tiny
from rlpost.types import Prompt, Rollout, Task

ANSWERS = [[20, 31, 20], [40, 41, 42, 43, 44, 45, 46, 47], [50]]
TRAINS = [[True] * 3, [False, True, True, True, False, True, True, True], [True]]
SEEDS = ("1/0", "9/0", "5/0")


def batch(family="llama", *, keep=(0, 1, 2), temperature=1.0, seeds=SEEDS, seed=1):
    """A taught model and the rows of `keep` as one padded batch."""
    bundle = diffusion_tiny(family=family, seed=seed)
    prompts = [bundle.encoder.prompt(Task(str(n), [{"role": "user", "content": "why " * n + "?"}])) for n in (1, 4, 2)]
    prompts, answers = [prompts[i] for i in keep], [ANSWERS[i] for i in keep]
    mask = completion_mask(answers, [TRAINS[i] for i in keep])
    inputs = bundle.encoder.collate(prompts, answers)
    inputs["position_ids"] = position_ids(bundle.model, inputs)
    teach(bundle.model)
    ask = Ask(mask, temperature, bundle.encoder.suppress, seeds=tuple(seeds[i] for i in keep))
    return bundle, prompts, Rows(inputs, ask)


def by_hand(bundle, prompt, i, view, temperature=1.0):
    """Log-distribution (T,V) at each place of a completion with the places of `view` masked, by a plain forward."""
    shown = [bundle.model.config.mask_token_id if hide else t for t, hide in zip(ANSWERS[i], view, strict=True)]
    with torch.no_grad():
        logits = bundle.model(input_ids=torch.tensor([prompt.ids + shown])).logits[0, len(prompt.ids) :].double()
    logits[:, bundle.encoder.suppress] = -torch.inf
    return torch.log_softmax(logits / temperature, -1)


def draw(i, k=0):
    rng = random.Random(f"{SEEDS[i]}/{k}")
    share = rng.uniform(0.2, 0.8)
    return share, [rng.random() < share for _ in ANSWERS[i]]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_estimate_is_the_sheets_formula_on_the_models_own_logits(family, temperature):
    bundle, prompts, rows = batch(family, temperature=temperature)
    with torch.no_grad():
        found = masked(bundle.model, rows)
    both = 0
    for i, (answer, trains) in enumerate(zip(ANSWERS, TRAINS, strict=True)):
        share, inside = draw(i)
        one, two = ([own and t for own, t in zip(s, trains, strict=True)] for s in (inside, [not x for x in inside]))
        both += any(one) and any(two)
        p0, p1, p2 = (by_hand(bundle, prompts[i], i, view, temperature) for view in (trains, one, two))
        for j, token in enumerate(answer):
            if not trains[j]:
                assert found.logp[i, j] == found.entropy[i, j] == 0
                continue
            part, weight = (p1, 1 / share) if inside[j] else (p2, 1 / (1 - share))
            assert float(found.logp[i, j]) == pytest.approx(float(p0[j, token] + weight * part[j, token]) / 2, abs=2e-5)
            entropies = [-float(torch.nan_to_num(p[j].exp() * p[j]).sum()) for p in (p0, part)]
            assert float(found.entropy[i, j]) == pytest.approx(sum(entropies) / 2, abs=2e-5)
    assert both == 2, "two rows must be split by their masks"
    assert (found.logp[:, 3:][~rows.ask.mask[:, 3:]] == 0).all()


def test_two_masks_apart_cover_a_token_twice_or_not_at_all():
    bundle, prompts, rows = batch()
    with torch.no_grad():
        found = masked_apart(bundle.model, rows)
    covered = set()
    for i, (answer, trains) in enumerate(zip(ANSWERS, TRAINS, strict=True)):
        draws = [draw(i, k) for k in (0, 1)]
        views = [trains, *([own and t for own, t in zip(s, trains, strict=True)] for _, s in draws)]
        p0, *parts = (by_hand(bundle, prompts[i], i, view) for view in views)
        for j, token in enumerate(answer):
            if trains[j]:
                seen = [(p, share) for p, (share, inside) in zip(parts, draws, strict=True) if inside[j]]
                covered.add(len(seen))
                wanted = float(p0[j, token] + sum(p[j, token] / share for p, share in seen)) / 2
                assert float(found.logp[i, j]) == pytest.approx(wanted, abs=2e-5)
    assert covered == {0, 1, 2}


def test_what_the_model_is_shown():
    """The prompt and what does not train are seen in all views; the two part views mask each token that trains once."""
    bundle, _, rows = batch()
    shown = []

    def spy(**inputs):
        shown.append(inputs["input_ids"])
        return bundle.model(**inputs)

    spy.config = bundle.model.config
    masked(spy, rows)
    whole, one, two = (part == bundle.model.config.mask_token_id for part in shown[0].chunk(3))
    width = rows.ask.mask.shape[1]
    assert not any(view[:, :-width].any() for view in (whole, one, two))
    assert torch.equal(whole[:, -width:], rows.ask.mask)
    assert torch.equal(one.int() + two.int(), whole.int()), "each token that trains is masked in exactly one of the two"
    assert one.any() and two.any()
    seen = shown[0].chunk(3)[1][~one]
    assert torch.equal(seen, rows.inputs["input_ids"][~one])


def test_a_row_does_not_depend_on_the_rows_beside_it():
    _, _, rows = batch()
    bundle, _, _ = batch()
    with torch.no_grad():
        whole = masked(bundle.model, rows).logp
        for i in range(3):
            alone = masked(bundle.model, batch(keep=(i,))[2]).logp
            torch.testing.assert_close(whole[i, : len(ANSWERS[i])], alone[0], atol=1e-5, rtol=0)


def test_equal_seeds_are_equal_draws_and_others_are_not():
    bundle, _, rows = batch()
    with torch.no_grad():
        first, again = masked(bundle.model, rows).logp, masked(bundle.model, rows).logp
        other = masked(bundle.model, replace(rows, ask=replace(rows.ask, seeds=("1/1", "9/1", "5/1")))).logp
    assert torch.equal(first, again) and (first - other).abs().max() > 0.1


def test_gradients_come_through_every_view():
    """With logp' = sum over views, the gradient of the head equals that of the hand-made sum."""
    bundle, prompts, rows = batch(keep=(1,))
    masked(bundle.model, rows).logp.sum().backward()
    found = bundle.model.get_output_embeddings().weight.grad.clone()
    bundle.model.zero_grad()
    share, inside = draw(1)
    trains, total = TRAINS[1], 0.0
    for view, weights in (
        (trains, [1.0] * 8),
        ([a and b for a, b in zip(inside, trains, strict=True)], [x / share for x in inside]),
        ([not a and b for a, b in zip(inside, trains, strict=True)], [(not x) / (1 - share) for x in inside]),
    ):
        shown = [bundle.model.config.mask_token_id if hide else t for t, hide in zip(ANSWERS[1], view, strict=True)]
        logits = bundle.model(input_ids=torch.tensor([prompts[0].ids + shown])).logits[0, len(prompts[0].ids) :]
        logits = logits.index_fill(-1, torch.tensor(bundle.encoder.suppress), float("-inf"))
        logp = torch.log_softmax(logits, -1).gather(-1, torch.tensor(ANSWERS[1])[:, None])[:, 0]
        total = total + sum(w * p for w, p, t in zip(weights, logp, trains, strict=True) if t) / 2
    total.backward()
    wanted = bundle.model.get_output_embeddings().weight.grad
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)
    assert wanted.abs().max() > 1e-2


def test_a_divergence_is_the_mean_over_the_two_views_that_score_a_token():
    bundle, prompts, rows = batch(keep=(1,))
    other, _, _ = batch(seed=2)
    with torch.no_grad():
        states = masked(other.model, rows).hidden
        ask = against(rows.ask, forward_kl, other.model, states)
        found = masked(bundle.model, replace(rows, ask=ask)).divergence
    _, inside = draw(1)
    for j in (1, 2, 3, 5, 6, 7):
        view = [(a if inside[j] else not a) and b for a, b in zip(inside, TRAINS[1], strict=True)]
        wanted = [
            float(
                forward_kl(*(by_hand(b, prompts[0], 1, v)[j : j + 1].nan_to_num(neginf=-1e9) for b in (other, bundle)))
            )
            for v in (TRAINS[1], view)
        ]
        assert float(found[0, j]) == pytest.approx(sum(wanted) / 2, abs=2e-5) and sum(wanted) > 0.01


def test_a_uniform_model_has_the_weights_alone():
    """V' = vocabulary without the mask: every view gives -log V', so logp_j = -log V' (1 + 1/t or 1/(1 - t)) / 2."""
    bundle, _, rows = batch()
    with torch.no_grad():
        bundle.model.get_output_embeddings().weight.zero_()
        found = masked(bundle.model, rows).logp
    size = math.log(len(bundle.encoder.tokenizer) - 1)
    share, inside = draw(1)
    for j in (1, 2, 3, 5, 6, 7):
        weight = 1 / share if inside[j] else 1 / (1 - share)
        assert float(found[1, j]) == pytest.approx(-size * (1 + weight) / 2, rel=1e-5)


def test_what_cannot_be_scored_is_said():
    bundle, _, rows = batch()
    with pytest.raises(ConfigError, match="a seed per row, which only rollouts"):
        masked(bundle.model, replace(rows, ask=replace(rows.ask, seeds=())))
    with pytest.raises(ConfigError, match=r"low=0.8 and likelihood.high=0.2"):
        masked(bundle.model, rows, low=0.8, high=0.2)
    with pytest.raises(ModelError, match="this model reads both ways"):
        causal(bundle.model, rows)
    plain = tiny.text()
    teach(plain.model)
    with pytest.raises(ModelError, match="LlamaForCausalLM is no masked-diffusion model"):
        masked(plain.model, rows)
    seeing = Rows({**rows.inputs, "pixel_values": torch.zeros(1)}, rows.ask)
    with pytest.raises(ModelError, match="reads text only, and these rows come with pixel_values"):
        masked(bundle.model, seeing)


def test_the_seed_of_a_row():
    def row(tokens, task="t", version=0, group="0.0.1", **info):
        found = Rollout(Task(task, ()), group, Prompt([1]), tokens, [True], [0.0], "", "eos", version=version)
        found.info.update(info)
        return found

    assert seed_of(row([4], mask_seed=12), 3, 1) == "12/1"
    first = seed_of(row([4]), 3, 0)
    assert first == seed_of(row([4]), 3, 0) == seed_of(row([4], group="0.1.0"), 3, 0)
    others = [seed_of(row([5]), 3, 0), seed_of(row([4]), 4, 0), seed_of(row([4]), 3, 1)]
    others += [seed_of(row([4], task="u"), 3, 0), seed_of(row([4], version=2), 3, 0)]
    assert len({first, *others}) == 6
