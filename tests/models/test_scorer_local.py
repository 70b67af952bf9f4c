"""Scorers of this process: their numbers are those of a direct computation, in order, cached or not."""

import re

import pytest
import torch

from rlpost import ledger
from rlpost.config import build
from rlpost.errors import ConfigError, DataError, ModelError
from rlpost.models.encode import Bundle
from rlpost.models.load import hub
from rlpost.models.scalar import with_score_head
from rlpost.models.scorer import heads
from rlpost.models.scorer.heads import Embedder, RewardHead, minilm_folder
from rlpost.models.scorer.local import Local, fingerprint
from rlpost.models.scorer.server import Server
from rlpost.models.tiny import text
from rlpost.types import Task
from tests.models.openai_server import greedy

PROMPTS = ["What is 2 + 3?", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], (), "y"]
ANSWERS = ["5", "Hello there", "plain text", [70, 71, 2]]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path / "cache"))
    ledger.reset()
    yield
    ledger.reset()


def rows(bundle, prompts=PROMPTS, answers=ANSWERS):
    """Prompt ids and completion ids, one row each, written out by hand: (), no template; text, its stop token."""
    found = []
    for prompt, answer in zip(prompts, answers, strict=True):
        chat = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        ids = bundle.encoder.prompt(Task("t", chat)).ids if chat else [bundle.encoder.tokenizer.eos_token_id]
        encode = bundle.encoder.tokenizer
        own = [*encode(answer)["input_ids"], encode.eos_token_id] if isinstance(answer, str) else answer
        found.append((ids, own))
    return found


def direct_logp(bundle, prompt, answer):
    ids = torch.tensor([prompt + answer])
    with torch.no_grad():
        logp = torch.log_softmax(bundle.model(input_ids=ids).logits[0].double(), -1)
    return [float(logp[len(prompt) + k - 1, token]) for k, token in enumerate(answer)]


def direct_state(bundle, prompt, answer):
    with torch.no_grad():
        states = bundle.model.base_model(input_ids=torch.tensor([prompt + answer])).last_hidden_state[0]
    return states[len(prompt) :].mean(0)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_log_probabilities_are_the_models(batch_size, family):
    bundle = text(family=family)
    found = Local(model=lambda: bundle, batch_size=batch_size, cache=False).logp(PROMPTS, ANSWERS)
    for row, (prompt, answer) in zip(found, rows(bundle), strict=True):
        assert row == pytest.approx(direct_logp(bundle, prompt, answer), abs=2e-5)


def test_states_and_embeddings_are_means_over_the_completion():
    bundle = text()
    scorer = Local(model=lambda: bundle, batch_size=3, cache=False)
    wanted = torch.stack([direct_state(bundle, *row) for row in rows(bundle)])
    found = scorer.hidden(PROMPTS, ANSWERS)
    assert found.shape == (4, 32) and torch.allclose(found, wanted, atol=2e-5)
    own = scorer.embed(["plain text", "", "more"])
    assert torch.allclose(own[0], wanted[2] / wanted[2].norm(), atol=2e-5)
    assert torch.allclose(own.norm(dim=1), torch.ones(3)) and scorer.embed([]).numel() == 0


def test_choices_are_a_softmax_of_their_sums():
    bundle = text()
    choices = [["yes", "no", "may be"], ["a", "b"]]
    found = Local(model=lambda: bundle, cache=False).choice_probs(["Is it?", "Which?"], choices)
    for prompt, own, probs in zip(["Is it?", "Which?"], choices, found, strict=True):
        pairs = rows(bundle, [prompt] * len(own), own)
        sums = torch.tensor([sum(direct_logp(bundle, *pair)) for pair in pairs], dtype=torch.float64)
        assert probs == pytest.approx((sums.exp() / sums.exp().sum()).tolist(), rel=1e-4)


def test_choices_after_the_beginning_of_an_answer():
    """First tokens that differ: a softmax of the next token's logits there. Else: of the sums, without stop token."""
    bundle = text()
    scorer = Local(model=lambda: bundle, cache=False, batch_size=2)
    encode, begun = bundle.encoder.tokenizer, ["It is ", "Well, ", ""]
    choices = [["yes", "no"], ["yes", "yet", "no"], ["12", "7"]]
    prompts = ["Is it?", "Which?", "How many?"]
    found = scorer.choice_probs(prompts, choices, begun=begun)
    for prompt, start, own, probs in zip(prompts, begun, choices, found, strict=True):
        ids = bundle.encoder.prompt(Task("t", [{"role": "user", "content": prompt}])).ids
        ids = [*ids, *encode(start, add_special_tokens=False)["input_ids"]]
        tokens = [encode(one, add_special_tokens=False)["input_ids"] for one in own]
        whole = [t if len({one[0] for one in tokens}) < len(own) else t[:1] for t in tokens]
        sums = torch.tensor([sum(direct_logp(bundle, ids, one)) for one in whole], dtype=torch.float64)
        assert probs == pytest.approx((sums.exp() / sums.exp().sum()).tolist(), rel=1e-4)
    for bad in (["a"], ["a", "a"], ["a", ""]):
        with pytest.raises(DataError, match="no two or more choices that differ"):
            scorer.choice_probs(["Is it?"], [bad], begun=[""])
    with pytest.raises(ConfigError, match="the beginning of an answer"):
        Server(base_url="http://localhost:1/v1", model="m").choice_probs(["a"], [["b", "c"]], begun=[""])


def test_replies_are_greedy_in_order_and_draws_follow_the_seed():
    bundle = text()
    scorer = Local(model=lambda: bundle, batch_size=2, cache=False)
    prompts = [*PROMPTS[:2], "long " * 9, "y"]
    chats = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
    wanted = [greedy(bundle, bundle.encoder.prompt(Task("t", chat)), 7) for chat in chats]
    assert scorer.judge(prompts, max_tokens=7) == wanted
    draws = [scorer.judge(prompts, max_tokens=20, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_what_does_not_fit_the_context_is_said():
    scorer = Local(model=lambda: text(context=64), cache=False)
    assert scorer.judge(["Hi", "x" * 60], max_tokens=8)[1] is None
    [row] = ledger.current().rows()
    assert row["kind"] == "fail" and "does not fit the judge's context" in row["cause"]
    with pytest.raises(ModelError, match=r"a text of 81 tokens does not fit the context of tiny-llama"):
        scorer.logp(["x" * 61], ["5"])  # 61 bytes, 18 of the template, the answer, its stop token
    with pytest.raises(DataError, match="without tokens"):
        scorer.logp(["a"], [[]])


def test_results_come_from_the_cache_and_are_the_same():
    first = Local(model=text, batch_size=2)
    whole = (first.logp(PROMPTS, ANSWERS), first.hidden(PROMPTS, ANSWERS), first.judge(["a", "b", "a"], max_tokens=4))
    assert first.stats()["judge/misses"] == 2, "equal items are computed once"
    again = Local(model=text, batch_size=3)
    found = (again.logp(PROMPTS, ANSWERS), again.hidden(PROMPTS, ANSWERS), again.judge(["a", "b", "a"], max_tokens=4))
    assert found[0] == whole[0] and torch.equal(found[1], whole[1]) and found[2] == whole[2]
    stats = again.stats()
    assert stats["logp/hits"] == 4 and stats["judge/hits"] == 3 and stats["logp/misses"] == stats["hidden/misses"] == 0
    assert "logp/p50_s" not in stats, "nothing ran"
    again.judge(["a"], max_tokens=5)
    again.judge(["a"], max_tokens=4, temperature=1.0, seed=1)
    again.judge(["a"], max_tokens=4, temperature=1.0, seed=2)
    assert again.stats()["judge/misses"] == 3, "other parameters are other results"


def test_other_weights_under_the_same_name_are_another_model(tmp_path):
    bundle = text()
    bundle.encoder.tokenizer.save_pretrained(tmp_path / "m")
    bundle.model.save_pretrained(tmp_path / "m")

    def scorer():
        return Local(model=lambda: hub(path=str(tmp_path / "m"), dtype="float32"))

    before = scorer().logp(["a"], ["b"])
    with torch.no_grad():
        bundle.model.model.layers[0].mlp.up_proj.weight[0, 0] += 0.5
    bundle.model.save_pretrained(tmp_path / "m")
    after = scorer()
    assert after.logp(["a"], ["b"]) != before and after.stats()["logp/misses"] == 1
    assert fingerprint(text().model) != fingerprint(text(seed=1).model)


def test_a_model_is_loaded_when_asked_and_frozen():
    loaded = []

    def model() -> Bundle:
        loaded.append(text())
        return loaded[-1]

    scorer = Local(model=model, cache=False)
    assert not loaded
    scorer.logp(["a"], ["b"])
    scorer.embed(["a"])
    assert len(loaded) == 1
    assert not any(p.requires_grad for p in loaded[0].model.parameters()) and not loaded[0].model.training


# --- heads ------------------------------------------------------------------------------------------------------------


def test_a_reward_models_folder_gives_its_scores(tmp_path):
    bundle = text()
    model = with_score_head(bundle, seed=3)
    model.save_pretrained(tmp_path / "reward")
    bundle.encoder.tokenizer.save_pretrained(tmp_path / "reward")
    scorer = RewardHead(path=str(tmp_path / "reward"), batch_size=3)
    found = scorer.scalar(PROMPTS, ANSWERS)
    for score, (prompt, answer) in zip(found, rows(bundle), strict=True):
        with torch.no_grad():
            assert score == pytest.approx(
                float(model(input_ids=torch.tensor([prompt + answer])).logits[0, 0]), abs=1e-5
            )
    assert len(set(found)) == 4 and RewardHead(path=str(tmp_path / "reward")).scalar(PROMPTS, ANSWERS) == found
    with pytest.raises(ConfigError, match=r"a reward model has no written replies \(judge\)"):
        scorer.judge(["a"])


def test_a_folder_without_a_head_is_no_reward_model(tmp_path):
    bundle = text()
    bundle.model.save_pretrained(tmp_path / "plain")
    bundle.encoder.tokenizer.save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelError, match="has no trained head of one output"):
        RewardHead(path=str(tmp_path / "plain")).scalar(["a"], ["b"])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT with the tiny tokenizer."""
    from transformers import BertConfig, BertModel

    path, tokenizer = tmp_path_factory.mktemp("bert"), text().encoder.tokenizer
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)).eval()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path), model, tokenizer


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_sentence_embedder_pools_what_is_no_padding(bert, pooling):
    path, model, tokenizer = bert
    texts = ["one", "two and more", "x" * 40, "one"]
    scorer = Embedder(path=path, pooling=pooling, max_tokens=30, batch_size=2)
    found = scorer.embed(texts)
    for row, one in zip(found, texts, strict=True):
        with torch.no_grad():
            states = model(input_ids=torch.tensor([tokenizer(one)["input_ids"][:30]])).last_hidden_state[0]
        wanted = states[0] if pooling == "cls" else states.mean(0)
        assert torch.allclose(row, wanted / wanted.norm(), atol=1e-5)
    assert [(row["kind"], row["count"]) for row in ledger.current().rows()] == [("cut", 1)]
    assert scorer.stats()["embed/misses"] == 3


@pytest.fixture(scope="module")
def minilm():
    """The real embedder out of its wheel, in the user's own cache."""
    return minilm_folder()


@pytest.mark.slow
def test_minilm_knows_what_is_similar(minilm, monkeypatch):
    monkeypatch.setattr(heads, "minilm_folder", lambda: minilm)
    texts = ["A man is eating food.", "Someone has a meal.", "The stock market fell sharply."]
    found = Embedder().embed(texts)
    similar = found @ found.T
    assert found.shape == (3, 384) and similar[0, 1] > 0.5 > 0.2 > similar[0, 2]


def test_options_build_what_they_name():
    scorer = build(
        {
            "_target_": "rlpost.models.scorer.local.Local",
            "model": {"_target_": "rlpost.models.tiny.text"},
            "cache": False,
        }
    )
    assert re.fullmatch(r"tiny:llama:32x2:0 [0-9a-f]{16}", scorer.identity)
