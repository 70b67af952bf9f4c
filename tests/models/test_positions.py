"""Positions of padded batches, for text and for media, in scoring and in generation."""

import numpy as np
import pytest
import torch

from rlpost.models import tiny
from rlpost.models.positions import next_positions, position_ids
from rlpost.models.tiny_video import video_tiny
from rlpost.types import Media, Prompt, Task

PROMPTS = [Prompt([5, 6, 7], [0] * 3), Prompt([8], [0])]
ANSWERS = [[9], [10, 11, 12]]


@pytest.fixture(scope="module")
def seeing():
    return video_tiny()


def test_text_counts_from_its_first_token():
    bundle = tiny.text()
    inputs = bundle.encoder.collate(PROMPTS, ANSWERS)
    found, mask = position_ids(bundle.model, inputs), inputs["attention_mask"].bool()
    assert found.shape == (2, 6)
    assert found[0][mask[0]].tolist() == [0, 1, 2, 3] and found[1][mask[1]].tolist() == [0, 1, 2, 3]
    assert found[1, :2].tolist() == [0, 0]


def test_text_of_a_vision_model_counts_on_three_axes(seeing):
    inputs = seeing.encoder.collate(PROMPTS, ANSWERS)
    found = position_ids(seeing.model, inputs)
    assert found.shape == (3, 2, 6)
    assert all(axis[1].tolist() == [0, 0, 0, 1, 2, 3] for axis in found)


def test_the_first_new_token_follows_the_largest_position():
    flat = torch.tensor([[0, 1, 2], [0, 0, 1]])
    assert next_positions(flat).tolist() == [[3], [2]]
    axes = torch.tensor([[[0, 1, 5], [0, 0, 1]], [[0, 7, 2], [0, 0, 1]], [[0, 1, 2], [0, 0, 1]]])
    assert next_positions(axes).tolist() == [[[8], [2]]] * 3


def clip(frames: int, fps: float, seed: int = 0) -> Media:
    noise = np.random.default_rng(seed).integers(0, 256, (frames, 56, 56, 3)).astype(np.uint8)
    return Media("video", frames=noise, fps=fps)


def asked(text: str, *media: Media) -> Task:
    content = [*({"type": m.kind} for m in media), {"type": "text", "text": text}]
    return Task(text, [{"role": "user", "content": content}], media=media)


TASKS = [
    asked("which way does it move ?", clip(8, 0.5)),  # 4 grid steps of 4 s: 16 positions apart
    asked("how many shapes are shown in the clip ?"),
    asked("what happens first ?", clip(4, 8.0, 1), clip(6, 2.0, 2)),
    asked("what is shown ?", Media("image", frames=np.full((56, 56, 3), 90, np.uint8)), clip(4, 4.0, 3)),
]


def test_padding_and_neighbours_do_not_move_a_row(seeing):
    prompts = [seeing.encoder.prompt(task) for task in TASKS]
    answers = [[20, 21], [22, 23, 24, 25], [26], [27, 28, 29]]
    together = position_ids(seeing.model, inputs := seeing.encoder.collate(prompts, answers))
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = position_ids(seeing.model, seeing.encoder.collate([prompt], [answer]))[:, 0]
        mask = inputs["attention_mask"][row].bool()
        assert torch.equal(together[:, row][:, mask], alone)


def test_generation_continues_where_scoring_goes_on(seeing):
    """The positions of an answer in the scoring batch are those that sampling counts up, one by one."""
    prompts = [seeing.encoder.prompt(task) for task in TASKS]
    following = next_positions(position_ids(seeing.model, seeing.encoder.collate(prompts)))
    whole = position_ids(seeing.model, seeing.encoder.collate(prompts, [[20, 21, 22]] * 4))
    assert following.shape == (3, 4, 1)
    assert torch.equal(whole[:, :, -3:], following + torch.arange(3))


def test_text_between_two_media_starts_after_the_first(seeing):
    """8 frames at 0.5 a second: 4 steps of 4 s, 4 positions a second, so 0, 16, 32, 48 after the start."""
    prompt = seeing.encoder.prompt(asked("first ?", clip(8, 0.5), clip(4, 8.0, 1)))
    found, kinds = position_ids(seeing.model, seeing.encoder.collate([prompt]))[:, 0], torch.tensor(prompt.kinds)
    visual = kinds.nonzero()[:, 0].tolist()
    first, second = visual[:16], visual[16:]
    start = first[0]
    assert found[0, first].tolist() == [start + 16 * step for step in range(4) for _ in range(4)]
    after = start + 48 + 1
    between = list(range(first[-1] + 1, second[0]))
    assert len(between) == 2 and found[:, between].tolist() == [[after, after + 1]] * 3
    begin = after + 2
    assert found[0, second].tolist() == [begin] * 4 + [begin + 1] * 4
    assert found[1, second].tolist() == [begin, begin, begin + 1, begin + 1] * 2
    rest = found[:, second[-1] + 1 :]
    assert rest[0].tolist() == list(range(begin + 2, begin + 2 + rest.shape[1])) and torch.equal(rest[0], rest[2])
