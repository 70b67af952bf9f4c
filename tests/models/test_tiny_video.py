"""The tiny Qwen2.5-VL: its language, its template, its weights."""

import pytest
import torch

pytest.importorskip("av")

from rlpost.dataset.clips import KINDS, _described, _task
from rlpost.media import scenes
from rlpost.models import cold_start
from rlpost.models.cold_start import IGNORE, labels
from rlpost.models.tiny_video import video_tiny, word_tokenizer


def test_it_is_a_qwen_of_about_a_million_parameters():
    model = video_tiny().model
    assert model.config.model_type == "qwen2_5_vl"
    assert 500_000 < sum(p.numel() for p in model.parameters()) < 1_500_000
    assert all(p.dtype == torch.float32 for p in model.parameters()) and not model.training


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = (video_tiny(seed=seed).model.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_initial_weights_have_the_deviation_asked_for():
    wide = video_tiny(init_std=0.05).model.get_input_embeddings().weight
    assert wide.std().item() == pytest.approx(0.05, rel=0.05)


def test_weights_survive_saving(tmp_path):
    model = video_tiny(seed=3).model
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert again.config.text_config.rope_parameters == model.config.text_config.rope_parameters


def test_text_survives_the_tokenizer():
    tokenizer = word_tokenizer()
    text = "<think> tl tr so right </think> <answer> B </answer>"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("a zebra moves")["input_ids"]) == ["a", "<unk>", "moves"]


def test_the_template_writes_every_kind_of_message():
    tokenizer = word_tokenizer()
    messages = [
        {"role": "system", "content": "what is shown ?"},
        {"role": "user", "content": [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "which way ?"}]},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == (
        "<|im_start|> system what is shown ? <|im_end|> "
        "<|im_start|> user <|vision_start|> <|image_pad|> <|vision_end|> "
        "<|vision_start|> <|video_pad|> <|vision_end|> which way ? <|im_end|> <|im_start|> assistant"
    )
    answered = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "left"}], tokenize=False)
    assert answered == prompt + " left <|im_end|>"


def test_every_word_of_the_clips_is_in_the_language(tmp_path):
    import random

    tokenizer, unknown = word_tokenizer(), word_tokenizer().unk_token_id
    for name, make in scenes.RENDERED.items():
        for seed in range(20):
            row = {
                "id": "x",
                "kind": name,
                "path": "x.mp4",
                "origin": "rendered",
                **_described(make(random.Random(seed))),
            }
            task = _task(row, tmp_path, "train")
            words = f"{task.prompt[0]['content'][1]['text']} {task.demonstration}"
            assert unknown not in tokenizer(words)["input_ids"], words
    assert set(scenes.RENDERED) < set(KINDS)


def test_the_cold_start_trains_answers_only():
    ids = torch.arange(12).reshape(2, 6)
    assert labels(ids, [[7, 8], [4, 5, 6]]).tolist() == [[IGNORE] * 3 + [7, 8, IGNORE], [IGNORE] * 3 + [4, 5, 6]]


def test_the_cold_start_learns_once_and_is_then_read(tmp_path, monkeypatch):
    """A few steps on a few clips lower the loss; the second call trains nothing and gives the same weights."""
    monkeypatch.setenv("RLPOST_CACHE", str(tmp_path))
    rendered = cold_start.clips_module.clips
    monkeypatch.setattr(cold_start.clips_module, "clips", lambda split, **k: rendered(split, kinds=["direction"], **k))
    first = cold_start.video_tiny_started(steps=3, batch=4, clips=8)
    monkeypatch.setattr(cold_start, "train", lambda *a, **k: pytest.fail("trained twice"))
    second = cold_start.video_tiny_started(steps=3, batch=4, clips=8)
    plain = video_tiny().model.state_dict()
    pairs = zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for (_, a), b in pairs)
    assert any(not torch.equal(value, plain[name]) for name, value in second.model.state_dict().items())
    assert not second.model.training
