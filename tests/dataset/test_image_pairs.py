"""Pairs of rendered images: one of them is what is asked for, and everything is said in the tiny model's words."""

import numpy as np
import pytest

from rlpost.dataset.image_pairs import image_pairs
from rlpost.errors import ConfigError
from rlpost.media.draw import COLOURS
from rlpost.models.tiny_video import word_tokenizer
from rlpost.reward.listener import answered, choice, stripped
from tests.reward.rows import rollout


def test_the_right_image_shows_the_colour_that_is_asked_for():
    """Where colour decides, the painted pixels of the right image alone have it."""
    tasks = [task for task in image_pairs("train", train=80) if "colour" in task.tags]
    assert 20 < len(tasks) < 60
    for task in tasks:
        asked = next(name for name in COLOURS if f" {name} " in task.prompt[0]["content"][-1]["text"])
        has = [bool((medium.frames == np.array(COLOURS[asked])).all(-1).any()) for medium in task.media]
        assert has == [task.answer == "A", task.answer == "B"]


def test_tasks_are_whole():
    tasks, known = image_pairs("test", test=40), word_tokenizer().get_vocab()
    assert {task.answer for task in tasks} == {"A", "B"} and {task.tags for task in tasks} == {("colour",), ("shape",)}
    for task in tasks:
        words = f"{task.prompt[0]['content'][-1]['text']} {task.demonstration}".split()
        assert not [word for word in words if word not in known]
        assert (
            choice([rollout(task.demonstration, task.answer)]) == [1.0] and answered(task.demonstration) == task.answer
        )
        thought = task.demonstration.split("</think>")[0]
        assert "so" not in stripped(thought, task.columns["choices"]).split() and " second is a " in thought
        assert all(medium.kind == "image" and medium.frames.shape == (56, 56, 3) for medium in task.media)


def test_splits_and_seeds():
    first, again = image_pairs("train", train=5), image_pairs("train", train=5)
    assert all((a.media[0].frames == b.media[0].frames).all() for a, b in zip(first, again, strict=True))
    others = [*image_pairs("test", test=5), *image_pairs("train", train=5, seed=1)]
    assert not any((a.media[0].frames == b.media[0].frames).all() for a in first for b in others)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        image_pairs("dev")
