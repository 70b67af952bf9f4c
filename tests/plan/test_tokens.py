import numpy as np
import pytest

from rlpost.config import compose
from rlpost.plan import load, tokens
from rlpost.plan.skeleton import skeleton
from rlpost.types import Media, Task

TINY = {"_target_": "rlpost.models.tiny.text"}
# One token per byte: start of turn, "user", line break, text, end of turn, start of turn, "assistant", line break.
FRAME = 1 + 4 + 1 + 1 + 1 + 9 + 1


def task(i, words, **more):
    return Task(f"t{i}", ({"role": "user", "content": words},), **more)


def test_lengths_are_those_of_the_runs_own_encoder():
    encoder = skeleton(TINY).encoder
    found = tokens.measure("grpo", [task(0, "1 + 2", answer=3), task(1, "?")], encoder, [0, 1]).found
    assert [(one.prompt, one.answers) for one in found] == [
        (FRAME + 5, (2,)),
        (FRAME + 1, ()),
    ]  # "3" and its stop token
    chosen = task(0, "hm", columns={"chosen": "yes", "rejected": "n"})
    assert tokens.measure("dpo", [chosen], encoder, [0]).found[0].answers == (4, 2)
    assert tokens.measure("sft", [task(0, "hm", demonstration="yes")], encoder, [0]).found[0].whole == FRAME + 2 + 4


def test_spread_by_hand():
    assert tokens.spread([10, 1, 3, 2], 3) == {"minimum": 1, "median": 2.5, "maximum": 10, "limit": 3, "over": 0.25}
    assert tokens.spread([], 3)["maximum"] is None


def test_samples_are_drawn_once_and_in_order():
    tasks = [task(i, "x") for i in range(50)]
    places = tokens.sampled(tasks, 7, seed=3)
    assert places == sorted(set(places)) and len(places) == 7
    assert places == tokens.sampled(tasks, 7, seed=3) != tokens.sampled(tasks, 7, seed=4)
    assert tokens.sampled(tasks, 80, seed=0) == list(range(50))


def lengths(*whole):
    return tokens.Lengths([tokens.Length(i, n, 0, (0,)) for i, n in enumerate(whole)], len(whole))


def test_the_longest_come_first():
    assert lengths(5, 9, 7, 9).longest(3) == [1, 3, 2]


def test_rows_over_the_limit_stop_a_supervised_run_past_the_share():
    facts = tokens.facts("sft", {"trainer": {"max_length": 8}}, lengths(5, 9, 7, 9), context=100)
    assert facts["rows"]["whole row"]["over"] == 0.5
    assert "2 of 4 sampled tasks cannot be used" in tokens.faults("sft", facts, max_bad=0.25)[0]
    assert tokens.faults("sft", facts, max_bad=0.5) == []
    assert any("left out" in sentence for sentence in tokens.warnings("sft", facts))
    default = tokens.facts("sft", {"trainer": {}}, lengths(5), context=None)
    assert default["rows"]["whole row"]["limit"] == 1024  # TRL's


def test_media_that_a_text_model_cannot_read_are_a_fault():
    shown = task(0, "look", media=(Media("image", path="a.png"),))
    found = tokens.measure("grpo", [shown], skeleton(TINY).encoder, [0])
    facts = tokens.facts("grpo", {"rollout": {"max_tokens": 8}}, found, None)
    assert "reads text only" in tokens.faults("grpo", facts, 0.5)[0]


def test_what_a_rollout_draws_is_seen_in_a_dry_run(monkeypatch):
    """4 completions of 6 tokens of each of 2 tasks, in one call."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    picks = ["model=tiny", "rollout.num_generations=4", "rollout.max_tokens=6"]
    tree = compose("grpo", [*picks, "trainer.per_device_train_batch_size=8"]).tree
    bundle = skeleton(TINY)
    from rlpost import assemble

    drawn = load.dry_run(tree, [task(0, "a"), task(1, "bcd")], bundle.encoder, assemble.sampling(tree["rollout"]))
    assert (drawn.together, drawn.prompts, drawn.prompt, drawn.answer) == (8, 2, FRAME + 3, 6)
    assert (drawn.group_rows, drawn.row_tokens, drawn.group_tokens, drawn.group_trained) == (4, 6, 24, 24)
    found = load.of_grpo(bundle.model, tree, lengths(20, 30), drawn)
    # Two groups a micro-batch: 2 prompts of 30 once, 8 completions of 6; alone it would be 8 * 36.
    assert (found.tokens, found.trained, found.rows) == (2 * 30 + 8 * 6, 48, 8)
    few = {**tree, "kernels": {"completions_at_once": 3}}
    assert load.of_grpo(bundle.model, few, lengths(20, 30), drawn).tokens == 2 * 30 + 3 * 6
    assert load.of_grpo(bundle.model, tree, lengths(20, 30), None).tokens == 2 * 30 + 8 * 6
    off = {**tree, "kernels": {"prefix": "off"}}
    assert load.of_grpo(bundle.model, off, lengths(20, 30), drawn).tokens == 8 * 36


def test_an_arm_that_does_not_train_is_drawn_but_not_laid_out(monkeypatch):
    """rollout contrast_shuffle: beside 4 completions of a video 2 on changed frames, in a call of their own."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    from rlpost import assemble

    picks = ["model=video_tiny", "rollout=contrast_shuffle", "rollout.num_generations=4", "rollout.max_tokens=6"]
    tree = compose("grpo", picks).tree
    frames = np.zeros((8, 56, 56, 3), np.uint8)
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "what moves ?"}]}
    shown = Task("v", (turn,), media=(Media("video", frames=frames, fps=4.0),))
    encoder = skeleton({"_target_": "rlpost.models.tiny_video.video_tiny"}).encoder
    drawn = load.dry_run(tree, [shown], encoder, assemble.sampling(tree["rollout"]))
    assert (drawn.together, drawn.group_rows, drawn.group_trained) == (4, 4, 24)
    # 8 frames in pairs, 4 x 4 patches merged 2 by 2: 4 * 4 tokens
    assert tokens.measure("grpo", [shown], encoder, [0]).found[0].visual == 16


@pytest.mark.parametrize(("command", "whole"), [("sft", 4 * 7), ("reward", 8 * 7), ("dpo", 4 * 5 + 8 * 2)])
def test_micro_batches_of_rows(command, whole, monkeypatch):
    """4 rows of a prompt of 5 and an answer of 2; a pair is two rows, whose prompt dpo encodes once."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    tree = compose(command, ["model=tiny", "trainer.per_device_train_batch_size=4"]).tree
    found = tokens.Lengths([tokens.Length(0, 5, 0, (2, 1))], 1)
    assert load.of_rows(command, skeleton(TINY).model, tree, found).tokens == whole
