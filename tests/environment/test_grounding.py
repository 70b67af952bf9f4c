"""Grounding: which boxes are valid, what is cut out of the original, and what the second turn says."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest

from rlpost.environment.grounding import Grounding, original_box, region
from rlpost.errors import DataError
from rlpost.models.vision import QwenVision
from rlpost.reward.grounding import box_overlap, valid_box
from rlpost.rollout.turns import multi_turn
from rlpost.types import Media, Task
from tests.rollout.scripted import context, ids

# 200 high and 400 wide; at most 112 x 56 pixels of the model's, so 4 = 400/112 * 28/25 ...
IMAGE = np.arange(200 * 400 * 3, dtype=np.uint32).reshape(200, 400, 3).astype(np.uint8)
MEDIA = QwenVision(image_min_pixels=28 * 28, image_max_pixels=6272)
SEEN = (112, 56)
TASK = Task(
    "t",
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "which letter ?"}]}],
    answer="K",
    media=(Media("image", frames=IMAGE[None]),),
    columns={"region": [0, 0, 100, 100]},
)


def block(*box: object, label: str = "x") -> str:
    return "```json\n" + json.dumps([{"bbox_2d": list(box), "label": label}]) + "\n```"


def look():
    return Grounding().reset(TASK, SimpleNamespace(media=MEDIA))


def test_the_model_sees_the_image_smaller():
    assert look().seen == SEEN


@pytest.mark.parametrize(("box", "good"), [
    ((0, 0, 112, 56), True), ((83, 0, 112, 29), True), ((0, 0, 113, 56), False), ((0, 0, 112, 57), False),
    ((0, 0, 28, 56), False), ((0, 0, 29, 28), False), ((0, 0, 29, 29), True), ((-1, 0, 60, 50), False),
    ((0, -1, 60, 50), False), ((60, 0, 30, 50), False), ((0, 50, 60, 10), False),
])  # fmt: skip
def test_valid_boxes(box, good):
    """x2 = width is inside; a side of exactly 28 pixels is too short; a negative corner is outside."""
    assert Grounding().valid(box, *SEEN) is good


def test_the_aspect_is_bounded():
    assert Grounding(min_side=0, max_aspect=4.0).valid((0, 0, 39, 10), 112, 56)
    assert not Grounding(min_side=0, max_aspect=4.0).valid((0, 0, 40, 10), 112, 56)


def test_the_first_block_that_holds_a_box_counts():
    text = 'so ```json\nnot json\n``` and ```\n[3, {"bbox_2d": [1, 2, 3]}]\n``` then ' + block(1, 2, 3, 4) + " behind"
    found, end = region(text + block(5, 6, 7, 8))
    assert found == (1, 2, 3, 4) and text[:end].endswith("```") and text[end:] == " behind"
    for bad in (
        block(1.5, 2, 3, 4),
        block(True, 2, 3, 4),
        block(1, 2, 3),
        "[[1, 2, 3, 4]]",
        block(1, 2, 3, 4, label=5),
        f"```\n{'[' * 100_000}\n```",
    ):
        assert region(bad) == (None, len(bad))


def test_the_crop_is_of_the_original():
    """x by 400/112 = 3.571, y by 200/56 = 3.571, truncated: 10 -> 35, 7 -> 25, 50 -> 178, 45 -> 160."""
    heard = (episode := look()).step("I look " + block(10, 7, 50, 45) + " more", "eos")
    assert episode.info == {"box_valid": 1.0, "box": [35, 25, 178, 160]}
    assert np.array_equal(heard.media[0].frames, IMAGE[None, 25:160, 35:178])
    assert heard.until == len("I look " + block(10, 7, 50, 45))
    assert "which letter ?" in heard.messages[0]["content"][1]["text"] and heard.messages[0]["content"][0] == {
        "type": "image"
    }
    last = episode.step("\\boxed{K}", "length")
    assert not last.messages and last.until == 9
    assert original_box((0, 0, 1, 1), (1000, 1000), IMAGE) == (0, 0, 1, 1)


@pytest.mark.parametrize("said", ["no box", block(-1, 0, 60, 50), block(0, 0, 28, 56)])
def test_without_a_valid_box_the_whole_image_comes_again(said):
    heard = (episode := look()).step(said, "eos")
    assert episode.info == {"box_valid": 0.0} and np.array_equal(heard.media[0].frames, IMAGE[None])
    assert "no valid region" in heard.messages[0]["content"][1]["text"] and heard.until == len(said)


def test_rewards_to_watch():
    """[35, 25, 178, 160] and [0, 0, 100, 100]: 65 * 75 = 4875 of 143 * 135 + 10000 - 4875 = 24430."""
    good = SimpleNamespace(info={"box_valid": 1.0, "box": [35, 25, 178, 160]}, task=TASK, text="")
    bad = SimpleNamespace(info={"box_valid": 0.0}, task=TASK, text="")
    other = SimpleNamespace(info={}, task=TASK, text="")
    apart = SimpleNamespace(info={"box_valid": 1.0, "box": [300, 0, 400, 90]}, task=TASK, text="")
    assert valid_box([good, bad, other]) == [1.0, 0.0, None]
    assert box_overlap([good, bad, other, apart]) == [pytest.approx(4875 / 24430), 0.0, None, 0.0]


def test_one_image_is_needed():
    for media in ((), (TASK.media[0],) * 2, (Media("video", frames=IMAGE[None], fps=1.0),)):
        with pytest.raises(DataError, match="one image"):
            Grounding().reset(Task("t", TASK.prompt, media=media), SimpleNamespace(media=MEDIA))


def test_a_sample_without_a_box_is_still_trained():
    """Both turns are rows of one trajectory that train, whatever the first said; each has its own images."""
    from rlpost.models.encode import Encoder
    from rlpost.models.tiny_video import word_tokenizer

    encoder = Encoder(word_tokenizer(), MEDIA)
    ctx = context(lambda prompt, k: "7", n=2)
    ctx.encoder, ctx.rng = encoder, random.Random(0)
    rows = multi_turn([TASK], ctx, environment=Grounding(), max_turns=2, rows="turn")
    assert [(r.trajectory, r.turn, r.role) for r in rows] == [
        (0, 0, "turn"),
        (0, 1, "policy"),
        (1, 0, "turn"),
        (1, 1, "policy"),
    ]
    assert all(all(r.trains) and r.tokens[0] == ids("7")[0] for r in rows)
    assert [len(r.prompt.features["image_grid_thw"]) for r in rows] == [1, 2, 1, 2]
    assert all(r.info["box_valid"] == 0.0 for r in rows)
