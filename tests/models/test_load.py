"""The embedded model, tiny ones, and folders."""

import hashlib
import json

import pytest
import torch

from rlpost.errors import ConfigError, ModelError
from rlpost.models.load import MANIFEST, _complete, embedded, hub, smollm2_folder
from rlpost.models.tiny import text
from rlpost.types import Task


def ask(question):
    return Task("t", ({"role": "user", "content": question},))


def greedy(bundle, task, tokens):
    prompt = bundle.encoder.prompt(task)
    inputs = bundle.encoder.collate([prompt])
    found = bundle.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
    return bundle.encoder.decode(found[0][len(prompt.ids) :].tolist())


@pytest.fixture(scope="module")
def smollm2():
    return embedded()


@pytest.mark.smollm2
def test_the_embedded_model_answers_in_english(smollm2):
    assert greedy(smollm2, ask("What is the capital of France?"), 12) == "The capital of France is Paris."


@pytest.mark.smollm2
def test_the_embedded_model_expects_english(smollm2):
    """A wrong rope base or tokenizer shows as a perplexity in the hundreds; shuffled words must surprise it more."""
    sentence = "Paris is the capital of France, and it is known for the Eiffel Tower."
    perplexity = []
    for words in (sentence, " ".join(sorted(sentence.split(" ")))):
        ids = smollm2.encoder.tokenizer(words, return_tensors="pt").input_ids
        with torch.no_grad():
            perplexity.append(float(smollm2.model(ids, labels=ids).loss.exp()))
    assert perplexity[0] < 20 and perplexity[1] > 10 * perplexity[0]


@pytest.mark.smollm2
def test_the_embedded_models_template_stop_token_and_digits(smollm2):
    prompt = smollm2.encoder.decode(smollm2.encoder.prompt(ask("Hi")).ids)
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    tokenizer, config = smollm2.encoder.tokenizer, smollm2.model.config
    assert smollm2.encoder.stop_ids == [2] == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert (config.eos_token_id, config.pad_token_id, config.rope_parameters["rope_theta"]) == (2, 2, 100000.0)
    assert config.tie_word_embeddings and smollm2.model.lm_head.weight is smollm2.model.model.embed_tokens.weight
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]  # digits stand alone, the spaces before them together
    assert smollm2.encoder.completion(ask("Hi"), "12").tokens == [*tokenizer.convert_tokens_to_ids(["1", "2"]), 2]


@pytest.mark.smollm2
def test_the_embedded_model_comes_from_the_cache(smollm2, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert str(smollm2_folder()) == smollm2.source
    assert getattr(smollm2.model.config, "quantization_config", None) is None


def test_a_cache_folder_with_a_cut_off_file_is_not_complete(tmp_path):
    assert not _complete(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"12345")
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {"model.safetensors": 5, "config.json": 2}}))
    assert not _complete(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert _complete(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"123")
    assert not _complete(tmp_path)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_tiny_is_small_reproducible_and_leaves_the_generator_alone(family):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = text(family=family), text(family=family), text(family=family, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert 10_000 < sum(p.numel() for p in first.model.parameters()) < 60_000
    assert digest(first.model) == digest(same.model) != digest(other.model)
    assert first.model.config.model_type == family and not first.model.training


def digest(model):
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def test_tiny_reads_and_writes_any_text_byte_by_byte():
    encoder = text().encoder
    said = "12 + 3 = 15, <answer>Größe 漢</answer>!\n"
    ids = encoder.tokenizer(said, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(said.encode()) and encoder.decode(ids) == said
    prompt = encoder.prompt(ask("7+5?"))
    assert encoder.decode(prompt.ids) == "<|im_start|>user\n7+5?<|im_end|><|im_start|>assistant\n"
    assert len(prompt.ids) == 3 + len("user\n7+5?assistant\n")  # each tag is one token
    assert encoder.completion(ask("7+5?"), "12").tokens[-1] == encoder.stop_ids[0]


def test_text_without_a_prompt_is_written_as_it_is_and_all_of_it_trains():
    encoder, task = text().encoder, Task("t", (), demonstration="The sky.")
    answer = encoder.completion(task, task.demonstration)
    assert encoder.prompt(task).ids == [
        encoder.stop_ids[0]
    ]  # no start token in this vocabulary: the end of the text before
    assert answer.tokens == [*encoder.tokenizer("The sky.")["input_ids"], encoder.stop_ids[0]]
    assert answer.trains == [True] * 9


def test_tiny_depends_on_its_prompt():
    bundle = text()
    assert len({greedy(bundle, ask(question), 8) for question in ("1", "22", "hello", "what?")}) > 1


def test_tiny_refuses_a_width_that_heads_do_not_divide():
    with pytest.raises(ConfigError, match="multiple of 2"):
        text(hidden=30)


def save(bundle, folder):
    bundle.model.save_pretrained(folder)
    bundle.encoder.tokenizer.save_pretrained(folder)
    return str(folder)


def test_hub_reads_what_save_pretrained_wrote(tmp_path):
    tiny = text()
    loaded = hub(path=save(tiny, tmp_path / "m"), dtype="float32")
    assert digest(loaded.model) == digest(tiny.model) and loaded.name == "m"
    assert loaded.encoder.prompt(ask("Hi")).ids == tiny.encoder.prompt(ask("Hi")).ids
    assert loaded.encoder.stop_ids == tiny.encoder.stop_ids
    assert next(hub(path=str(tmp_path / "m")).model.parameters()).dtype == torch.bfloat16


def test_hub_needs_a_chat_template_and_takes_one(tmp_path):
    tiny = text()
    tiny.encoder.tokenizer.chat_template = None
    path = save(tiny, tmp_path / "m")
    with pytest.raises(ModelError, match=r"no chat template.*model\.chat_template"):
        hub(path=path)
    with pytest.raises(ModelError, match="does not exist"):
        hub(path=path, chat_template=str(tmp_path / "nowhere.jinja"))
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}>")
    loaded = hub(path=path, chat_template=str(tmp_path / "t.jinja"))
    assert loaded.encoder.decode(loaded.encoder.prompt(ask("Hi")).ids) == "Hi>"


def test_hub_says_what_is_wrong_with_a_path(tmp_path, monkeypatch):
    for path in ("./nowhere", str(tmp_path / "nowhere"), "a/b/c"):
        with pytest.raises(ModelError, match=r"does not exist; check model.path"):
            hub(path=path)
    with pytest.raises(ModelError, match=r"has no config.json"):
        hub(path=str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="LoRA adapter"):
        hub(path=str(tmp_path))
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(ModelError, match="cannot be loaded"):
        hub(path=str(tmp_path))
    with pytest.raises(ModelError, match="is a file"):
        hub(path=str(tmp_path / "config.json"))


def test_hub_without_a_network_says_what_to_do(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"nobody/nothing cannot be loaded.*local folder, or use model=smollm2"):
        hub(path="nobody/nothing")
