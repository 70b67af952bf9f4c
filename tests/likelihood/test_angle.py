"""Angle concentration: the closed form against the matrix, and what a model's hidden states give."""

import pytest
import torch
from torch.nn.functional import normalize

from rlpost.errors import DataError, ModelError
from rlpost.likelihood import angle
from rlpost.models.tiny import text
from rlpost.types import Rollout, Task


def matrix(hidden):
    h = normalize(hidden.double(), dim=-1)
    return (h @ h.T).tril(1)


def test_two_and_three_states_by_hand():
    # rows at 0, 60 and 90 degrees, of any length: C = [[1, .5, 0], [.5, 1, .866], [0, .866, 1]], entry (0, 2) cut off
    hidden = torch.tensor([[2.0, 0.0], [0.5, 0.75**0.5], [0.0, 7.0]])
    assert angle.concentration(hidden[:2]) == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert angle.concentration(hidden) == pytest.approx((3 + 2 * 0.5 + 2 * 0.75**0.5 + 0) / 8)
    assert angle.concentration(hidden[:1]) == pytest.approx(1)
    # question rows 1, 2 and template row 0: mean of [[1, .866], [.866, 1]], mean of [.5, 0]
    own, across = (2 + 2 * 0.75**0.5) / 4, 0.25
    assert angle.prompt_score(hidden, 1, 3) == pytest.approx(own + 8 * across)
    assert angle.prompt_score(hidden, 1, 3, template_weight=0.5) == pytest.approx(own + 0.5 * across)
    assert angle.prompt_score(hidden, 0, 2) == pytest.approx(0.75)


def test_the_closed_form_is_the_matrix():
    hidden = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    c = matrix(hidden)
    assert angle.concentration(hidden) == pytest.approx(float(c.sum() / (c != 0).sum()), rel=1e-9)
    wanted = c[3:7, 3:7].mean() + 2.0 * c[3:7, :3].mean()
    assert angle.prompt_score(hidden, 3, 7, template_weight=2.0) == pytest.approx(float(wanted), rel=1e-9)


def test_nothing_to_measure_is_a_sentence():
    with pytest.raises(DataError, match="without tokens"):
        angle.concentration(torch.zeros(0, 3))
    with pytest.raises(DataError, match="without a question"):
        angle.prompt_score(torch.ones(3, 2), 2, 2)


def test_what_prompts_share_at_their_ends():
    assert angle.shared_ends([[1, 2, 5, 9], [1, 2, 6, 7, 9], [1, 2, 6, 9]]) == (2, 1)
    assert angle.shared_ends([[1, 2, 3], [1, 2, 3]]) == (3, 0)
    assert angle.shared_ends([[1, 2, 1, 3], [1, 2, 1, 2, 1, 3]]) == (3, 1)
    assert angle.shared_ends([[4, 5]]) == (0, 0)


def tasks(*texts):
    return [Task(id=t, prompt=({"role": "user", "content": t},)) for t in texts]


def test_a_models_states_do_not_depend_on_the_batch():
    bundle, asked = text(), tasks("Calculate 1 + 2.", "Say nine words about the number 12 and add 7 to it.")
    layers = [m for n, m in bundle.model.named_modules() if n.endswith("mlp.up_proj")]
    assert len(layers) > 1
    rollouts = [
        Rollout(t, "g", bundle.encoder.prompt(t), list(ids), [True] * len(ids), [0.0] * len(ids), "", "eos")
        for t, ids in zip(asked, ([5, 6, 7, 8], [9]), strict=True)
    ]
    together = angle.of_rollouts(bundle.model, bundle.encoder, rollouts, 2)
    alone = angle.of_rollouts(bundle.model, bundle.encoder, rollouts, 1)
    assert together == pytest.approx(alone, rel=1e-4) and together[0] != pytest.approx(together[1], rel=1e-3)

    seen = []
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    ids = torch.tensor([[*rollouts[1].prompt.ids, 9]])
    with torch.no_grad():
        bundle.model.eval()(input_ids=ids)
    hook.remove()
    assert alone[1] == pytest.approx(angle.concentration(seen[0]), rel=1e-4)


def test_scores_of_prompts():
    bundle, asked = text(), tasks("Calculate 1 + 2.", "Calculate 17 + 5.", "Calculate 3 * 4 now.")
    ids = [bundle.encoder.prompt(t).ids for t in asked]
    before, after = angle.shared_ends(ids)
    assert before > 0 and after > 0
    layer = [m for n, m in bundle.model.named_modules() if n.endswith("mlp.up_proj")][-1]
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    bundle.model.train()
    with torch.no_grad():
        bundle.model.eval()(input_ids=torch.tensor([ids[1]]))
    hook.remove()
    c = matrix(seen[0])
    q, t = slice(before, len(ids[1]) - after), slice(0, before)
    bundle.model.train()
    found = angle.of_prompts(bundle.model, bundle.encoder, asked)
    assert found[1] == pytest.approx(float(c[q, q].mean() + 8 * c[q, t].mean()), rel=1e-4)
    assert bundle.model.training and not layer._forward_pre_hooks
    same = angle.of_prompts(bundle.model, bundle.encoder, [asked[0], asked[0]])
    assert same[0] == same[1]  # equal prompts share everything; their last token stands for the question


def test_a_model_without_the_layer_is_a_sentence():
    class Other(torch.nn.Module):
        def get_decoder(self):
            return torch.nn.Linear(2, 2)

    with pytest.raises(ModelError, match=r"Other has no mlp\.up_proj"):
        angle.of_prompts(Other(), text().encoder, tasks("one", "two"))
