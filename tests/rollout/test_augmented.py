"""Easier and harder prompts: who gets a hint or worse frames, how much of it, and what trains."""

from dataclasses import replace

import numpy as np
import pytest

from rlpost.errors import ConfigError
from rlpost.media.change import changed
from rlpost.rollout.augmented import augmented
from rlpost.types import Media
from tests.rollout.scripted import by_role, context, task

HARD, EASY, HALF = task("hard", "7"), task("easy", "7"), task("half", "7")
TRACE = "abcdefgh 7"


def share(prompt: str, k: int) -> str:
    """Of 4 completions of a prompt none is right on hard, all on easy, two on half, all with a hint."""
    right = "easy" in prompt or "begins with" in prompt or ("half" in prompt and k < 2)
    return TRACE if right else "no"


def ran(tasks, notes, *, say=share, step=3, seed=0, **knobs):
    ctx = context(say, prompts=notes, step=step, names=f"{step}.0", seed=seed)
    return augmented(tasks, ctx, **knobs), ctx


def known(mean=0.5, **traces):
    return {"augmented/mean/2.0": (2, mean), **{f"augmented/trace/{name}": text for name, text in traces.items()}}


def test_nothing_is_changed_before_there_is_a_mean_or_a_success():
    notes = {}
    rows, ctx = ran([HARD, EASY], notes, step=0)
    assert len(rows) == 8 and all(all(row.trains) and row.role == "policy" for row in rows)
    assert notes == {"augmented/trace/easy": TRACE, "augmented/mean/0.0": (0, 0.5)}
    rows, ctx = ran([HARD], known())
    assert len(rows) == 4 and len(ctx.engine.asked) == 1, "no success of it is known"


@pytest.mark.parametrize(
    ("mean", "knobs", "hint"),
    [
        (0.5, {}, "abcde"),  # |Delta| 0.5 of ten characters
        (0.9, {}, "abcde"),  # at most a half
        (0.3, {}, "abc"),
        (0.3, {"hint_scale": 2.0}, "abcde"),
        (0.9, {"most_hint": 0.8}, "abcdefgh"),
        (0.9, {"most_hint": 1.0}, "abcdefgh "),
    ],
)
def test_a_hard_prompt_begins_with_a_part_of_a_success(mean, knobs, hint):
    rows, ctx = ran([HARD, HALF], known(mean, hard=TRACE), margin=0.45 if mean > 0.8 else 0.05, **knobs)
    again = by_role(rows, "augmented")
    if mean != 0.5:
        again = [row for row in again if row.task.id == "hard"]
    assert len(again) == 4 and {row.task.id for row in again} == {"hard"}
    assert ctx.engine.asked[-1].count(f"A solution of this begins with: {hint}\n\nhard") == 1
    assert all(all(row.trains) and row.text == TRACE for row in again)
    first = [row for row in by_role(rows, "policy") if row.task.id == "hard"]
    assert len(first) == 4 and not any(any(row.trains) for row in first)
    assert {row.group for row in first} != {row.group for row in again}
    assert all(row.task.prompt[0]["content"].endswith("hard") and row.task is not HARD for row in again)


def test_within_the_margin_and_unjudged_prompts_are_left_alone():
    rows, _ = ran([HALF, task("unjudged", None)], known(0.45, half=TRACE, unjudged=TRACE), margin=0.05)
    assert len(rows) == 8 and all(all(row.trains) for row in rows)
    rows, _ = ran([HALF], known(0.56, half=TRACE), margin=0.05)
    assert len(rows) == 4, "floor(0.06 * 10) tokens are no hint"
    rows, _ = ran([HALF], known(0.71, half=TRACE), margin=0.05)
    assert len(by_role(rows, "augmented")) == 4


FRAMES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)


def test_an_easy_video_gets_noise_in_the_measure_of_its_ease():
    shown = replace(EASY, media=(Media("image", frames=FRAMES[0]), Media("video", frames=FRAMES)))
    ctx, seen = context(share, prompts=known(0.8), step=3, names="3.0"), []
    generate = ctx.generate

    def blind(tasks, *rest, **more):
        """The engine of these tests reads text only."""
        seen.append(list(tasks))
        return generate([replace(one, media=()) for one in tasks], *rest, **more)

    ctx.generate = blind
    rows = augmented([shown, EASY], ctx, noise_scale=2.0)
    assert len(by_role(rows, "augmented")) == 4, "without frames nothing is made harder"
    (worse,) = seen[1]
    image, video = worse.media
    name, _, size = video.change.split(":")
    assert image.change == "" and name == "noise" and float(size) == pytest.approx(0.4)
    seen.clear()
    augmented([shown], ctx, noise="mask", noise_scale=9.0, most_noise=0.5)
    assert seen[1][0].media[1].change.split(":")[::2] == ["grey", "0.5"]
    assert changed(FRAMES, video.change).std() > FRAMES.std() / 2


def test_the_window_holds_the_last_steps_of_every_process():
    notes = {
        f"augmented/mean/{step}.{rank}": (step, value) for step, rank, value in [(1, 0, 0.0), (2, 0, 0.2), (2, 1, 0.6)]
    }
    rows, _ = ran([HALF], dict(notes), margin=0.2)  # mean 0.8 / 3, half is 0.23 above it, and has no video
    assert len(rows) == 4
    after = dict(notes)
    ran([HALF, HARD], after, step=3, window=2)
    assert {name: after[name][1] for name in after if "mean" in name} == {
        "augmented/mean/2.0": 0.2, "augmented/mean/2.1": 0.6, "augmented/mean/3.0": 0.25
    }  # fmt: skip


def test_hints_come_from_earlier_steps_and_successes_from_the_prompt_itself():
    notes = known(0.9, half="12345678 7")
    rows, _ = ran([HALF], notes)
    assert "begins with: 1234\n" in by_role(rows, "augmented")[0].task.prompt[0]["content"]
    assert notes["augmented/trace/half"] == TRACE, "that of this step is for the next one"
    notes = known(0.9, hard="an older 7")
    rows, _ = ran([HARD], notes)
    assert len(by_role(rows, "augmented")) == 4 and notes["augmented/trace/hard"] == "an older 7"


def test_settings_are_checked():
    for knobs in ({"window": 0}, {"margin": -1.0}, {"most_hint": 1.5}, {"most_noise": 2.0}, {"template": "hint"}):
        with pytest.raises(ConfigError, match="rollout augmented: window"):
            ran([HARD], {}, **knobs)
