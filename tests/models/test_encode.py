"""Prompts, answers and batches: what trains, what stops, what is padded, and what is refused."""

import numpy as np
import pytest
import torch

from rlpost.errors import DataError, ModelError
from rlpost.models import tiny
from rlpost.models.encode import Encoder, Visual, completion_mask
from rlpost.models.tiny_video import video_tiny
from rlpost.types import Media, Prompt, Task

NEWLINES = (  # as Qwen's: a line break after every stop token
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REWRITES = "{% for m in messages %}{{ loop.length ~ m['content'] }}{% endfor %}"
BARE = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"


def encoder(template: str | None = None, **more) -> Encoder:
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    return Encoder(tokenizer, **more)


def task(*texts: str) -> Task:
    roles = ("system", "user", "assistant", "user")
    return Task("t", [{"role": r, "content": c} for r, c in zip(roles, texts, strict=False)])


def said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.mark.parametrize("template", [None, NEWLINES])
@pytest.mark.parametrize("text", ["4", "naïve – 数学 🙂", "two\nlines\n", " ", "<think>a</think>"])
def test_an_answer_round_trips_and_ends_with_its_stop_token(template, text):
    one = encoder(template)
    answer = one.completion(task("be brief", "2+2?"), text)
    assert one.decode(answer.tokens) == text
    assert answer.tokens[-1] == one.tokenizer.eos_token_id and answer.tokens.count(answer.tokens[-1]) == 1
    assert answer.trains == [True] * len(answer.tokens)


@pytest.mark.parametrize("template", [None, NEWLINES])
def test_prompt_and_answer_are_the_whole_conversation(template):
    one = encoder(template)
    prompt, answer = one.prompt(task("be brief", "2+2?")), one.completion(task("be brief", "2+2?"), "four")
    whole = one.tokenizer.apply_chat_template(
        [said("system", "be brief"), said("user", "2+2?"), said("assistant", "four")], tokenize=False
    )
    assert one.tokenizer.decode(prompt.ids + answer.tokens) == whole.rstrip("\n")
    assert prompt.kinds == [0] * len(prompt.ids) and prompt.features == {}


@pytest.mark.parametrize("template", [None, NEWLINES])
def test_only_what_the_assistant_says_trains_up_to_each_stop_token(template):
    one = encoder(template)
    turns = [said("assistant", "one"), said("user", "more?"), said("assistant", "two!")]
    answer = one.completion(task("s", "count"), turns)
    tokens = torch.tensor(answer.tokens)
    trained = one.tokenizer.decode(tokens[torch.tensor(answer.trains)])
    assert trained == "one<|im_end|>two!<|im_end|>"
    between = one.tokenizer.decode(tokens[~torch.tensor(answer.trains)])
    gap = "\n" if template else ""
    assert between == f"{gap}<|im_start|>user\nmore?<|im_end|>{gap}<|im_start|>assistant\n"
    assert len(answer.tokens) == len(answer.trains) and answer.trains[-1]


def test_a_template_without_a_stop_token_gets_one():
    one = encoder(BARE)
    answer = one.completion(task("s", "u"), "yes")
    assert answer.tokens[-1] == one.tokenizer.eos_token_id and answer.trains[-1]
    assert one.decode(answer.tokens) == "yes "


@pytest.mark.parametrize("turns", [[], [{"role": "user", "content": "x"}]])
def test_an_answer_ends_with_the_assistant(turns):
    with pytest.raises(DataError, match="task t: an answer ends with an assistant message"):
        encoder().completion(task("s", "u"), turns)


def test_a_template_that_rewrites_history_is_refused():
    with pytest.raises(ModelError, match="rewrites earlier turns"):
        encoder(REWRITES).completion(task("s", "u"), "yes")


def test_a_missing_template_is_refused():
    tokenizer = tiny.byte_tokenizer()
    tokenizer.chat_template = None
    for act in (lambda e: e.prompt(task("s", "u")), lambda e: e.completion(task("s", "u"), "a")):
        with pytest.raises(ModelError, match="no chat template"):
            act(Encoder(tokenizer))


def test_a_tokenizer_without_an_end_is_refused_and_one_without_padding_pads_with_it():
    tokenizer = tiny.byte_tokenizer()
    tokenizer.pad_token = None
    assert Encoder(tokenizer).pad_id == tokenizer.eos_token_id
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        Encoder(tokenizer)


def test_template_settings_and_stop_ids_are_passed_on():
    template = "{{ 'quick ' if quick else 'slow ' }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    one = encoder(template, template_kwargs={"quick": True}, stop_ids=[40, 50])
    assert one.decode(one.prompt(task("s", "u")).ids) == "quick su"
    assert one.stop_ids == [one.tokenizer.eos_token_id, 40, 50]
    assert encoder(stop_ids=[2, 40]).stop_ids == [2, 40]


def test_decode_drops_stops_and_padding_at_the_end_only():
    one = encoder()
    pad, end = one.pad_id, one.tokenizer.eos_token_id
    text = one.tokenizer("ab")["input_ids"]
    assert one.decode([*text, end, pad, pad]) == "ab" and one.decode([]) == "" and one.decode([end]) == ""
    assert one.decode([text[0], end, text[1], end]) == "a<|im_end|>b"


def test_a_batch_pads_prompts_left_and_answers_right():
    one = encoder()
    prompts = [Prompt([5, 6, 7], [0] * 3), Prompt([8], [0]), Prompt([9, 10], [0] * 2)]
    found = one.collate(prompts, [[11], [12, 13, 14], []])
    pad = one.pad_id
    assert found["input_ids"].tolist() == [[5, 6, 7, 11, pad, pad], [pad, pad, 8, 12, 13, 14], [pad, 9, 10, *[pad] * 3]]
    assert found["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]]
    assert set(found) == {"input_ids", "attention_mask"} and found["input_ids"].dtype == torch.long
    alone = one.collate(prompts)
    assert alone["input_ids"].tolist() == [[5, 6, 7], [pad, pad, 8], [pad, 9, 10]]
    with pytest.raises(ValueError, match="shorter"):
        one.collate(prompts, [[1], [2]])


def test_the_mask_follows_what_trains():
    found = completion_mask([[1, 2, 3], [4], []], [[True, False, True], [True], []])
    assert found.tolist() == [[True, False, True], [True, False, False], [False] * 3]
    assert completion_mask([], []).shape == (0, 0)


# --- media ----------------------------------------------------------------------------------------------------------


class Stamps:
    """A media encoder whose features say which medium they are; a video stands for 3 tokens, an image for 2."""

    placeholders = {"image": "<|image_pad|>", "video": "<|video_pad|>"}  # noqa: RUF012
    special_tokens = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

    def __call__(self, media: Media) -> Visual:
        name = "pixel_values" if media.kind == "image" else "pixel_values_videos"
        return Visual(media.kind, {name: torch.full((1, 2), media.fps or 0.0)}, 2 if media.kind == "image" else 3)


def shown(*kinds: str, media: tuple[Media, ...] | None = None) -> Task:
    parts = [*({"type": kind} for kind in kinds), {"type": "text", "text": "which ?"}]
    made = tuple(Media(kind, fps=float(i + 1)) for i, kind in enumerate(kinds))
    return Task("clip", [{"role": "user", "content": parts}], media=made if media is None else media)


@pytest.fixture(scope="module")
def seeing() -> Encoder:
    return Encoder(video_tiny().encoder.tokenizer, Stamps())


def test_placeholders_are_expanded_in_order(seeing):
    prompt = seeing.prompt(shown("video", "image", "video"))
    assert [k for k in prompt.kinds if k] == [2] * 3 + [1] * 2 + [2] * 3
    names = seeing.tokenizer.convert_ids_to_tokens(prompt.ids)
    assert all(
        (kind != 0) == (name in Stamps.placeholders.values()) for kind, name in zip(prompt.kinds, names, strict=True)
    )
    assert prompt.features["pixel_values_videos"][:, 0].tolist() == [1.0, 3.0]
    assert prompt.features["pixel_values"][:, 0].tolist() == [2.0]


@pytest.mark.parametrize(
    ("kinds", "media", "message"),
    [
        (("video",), (), "placeholder for a video that task.media does not hold"),
        (("video", "video"), ("video",), "placeholder for a video"),
        (("video",), ("video", "image"), "1 of 2 media have no placeholder"),
        ((), ("image",), "1 of 1 media have no placeholder"),
        (("video", "image"), ("image", "video"), "placeholder for a video"),
    ],
)
def test_media_and_placeholders_must_agree(seeing, kinds, media, message):
    with pytest.raises(DataError, match=rf"task clip.*{message}"):
        seeing.prompt(shown(*kinds, media=tuple(Media(kind, fps=1.0) for kind in media)))


def test_media_for_a_text_model_are_refused():
    with pytest.raises(DataError, match="task t has 1 media but the model reads text only"):
        encoder().prompt(Task("t", [said("user", "what?")], media=(Media("image", path="a.png"),)))
    parts = [{"type": "image"}, {"type": "text", "text": "what?"}]  # what the template of a text model cannot write
    with pytest.raises(DataError, match="task t has 1 media but the model reads text only"):
        encoder().prompt(Task("t", [{"role": "user", "content": parts}], media=(Media("image", path="a.png"),)))


def test_a_batch_joins_media_in_the_order_of_its_rows(seeing):
    tasks = [shown("image"), shown(), shown("video", "video"), shown("image", "video")]
    prompts = [seeing.prompt(t) for t in tasks]
    found = seeing.collate(prompts, [[3], [4, 5], [], [6]])
    assert found["pixel_values"][:, 0].tolist() == [1.0, 1.0]
    assert found["pixel_values_videos"][:, 0].tolist() == [1.0, 2.0, 2.0]
    assert found["mm_token_type_ids"].dtype == torch.int32
    width = max(len(p.ids) for p in prompts)
    for row, prompt in enumerate(prompts):
        assert found["mm_token_type_ids"][row].tolist() == [0] * (width - len(prompt.ids)) + prompt.kinds + [0, 0]
    assert "pixel_values" not in seeing.collate(prompts[1:3])
    assert seeing.collate(prompts[1:2])["mm_token_type_ids"].any().item() is False


def test_visual_ids_are_suppressed(seeing):
    assert seeing.tokenizer.convert_ids_to_tokens(seeing.suppress) == list(Stamps.special_tokens)
    assert encoder().suppress == []


def test_answers_to_a_video_round_trip():
    bundle = video_tiny()
    clip = Media("video", frames=np.zeros((4, 56, 56, 3), np.uint8), fps=4.0)
    one, text = shown("video", media=(clip,)), "<think> tl so left </think> <answer> A </answer>"
    answer = bundle.encoder.completion(one, text)
    assert bundle.encoder.decode(answer.tokens).strip() == text and answer.tokens[-1] in bundle.encoder.stop_ids
    assert len(bundle.encoder.prompt(one).features["pixel_values_videos"]) == 2 * 4 * 4
