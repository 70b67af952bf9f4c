"""Qwen3-VL: frames between times in the prompt, patches of 16 pixels, and positions that start anew at every frame."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from rlpost.errors import DataError
from rlpost.media.sample import FrameSettings
from rlpost.models.positions import next_positions, position_ids
from rlpost.models.qwen_vl import qwen_vl
from rlpost.models.vision import Qwen3Vision, _step_times
from rlpost.types import Media, Task
from tests.models.qwen3_vl import qwen3_vl

START, END, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"


@pytest.fixture(scope="module")
def seeing():
    return qwen3_vl()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def video(frames: int, fps: float, *, size: tuple[int, int] = (64, 64), seed: int = 0) -> Media:
    return Media("video", frames=noise(frames, *size, 3, seed=seed), fps=fps)


def asked(*media: Media, text: str = "which way?") -> Task:
    parts = [{"type": m.kind} for m in media]
    return Task("t", [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}], media=media)


def written(bundle, prompt) -> str:
    """The prompt as text, a run of placeholders shortened to one and its length."""
    text = bundle.encoder.tokenizer.decode(prompt.ids)
    for name in ("<|video_pad|>", "<|image_pad|>"):
        for n in range(64, 0, -1):
            text = text.replace(name * n, f"[{n}]")
    return text


def test_each_frame_pair_stands_behind_its_time(seeing):
    """5 frames at 2 a second lie at 0, 0.5, 1, 1.5, 2 s; the last is repeated: pairs at 0.25, 1.25 and 2 s."""
    prompt = seeing.encoder.prompt(asked(video(5, 2.0)))
    frames = "".join(f"<{t} seconds>{START}[4]{END}" for t in ("0.2", "1.2", "2.0"))
    assert written(seeing, prompt) == f"<|im_start|>user\n{frames}which way?<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.kinds.count(2) == 12 and len(prompt.kinds) == len(prompt.ids)
    assert set(prompt.features) == {"pixel_values_videos", "video_grid_thw"}
    assert prompt.features["video_grid_thw"].tolist() == [[3, 4, 4]]


@pytest.mark.parametrize(("frames", "fps"), [(4, 2.0), (7, 0.3), (16, 1.6)])
def test_a_video_is_written_as_the_processor_of_transformers_writes_it(frames, fps):
    """Its arithmetic needs no torchvision: it is called on a stand-in that holds its four settings."""
    visual = Qwen3Vision(frames=FrameSettings(factor=32, min_pixels=96 * 64, max_pixels=96 * 64))(
        video(frames, fps, size=(96, 64))
    )
    processor = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        video_token=VIDEO, vision_start_token=START, vision_end_token=END,
        _calculate_timestamps=lambda *a: Qwen3VLProcessor._calculate_timestamps(None, *a),
    )  # fmt: skip
    theirs = Qwen3VLProcessor.replace_video_token(
        processor,
        {
            "video_grid_thw": visual.features["video_grid_thw"],
            "video_metadata": [SimpleNamespace(fps=fps, frames_indices=list(range(frames)))],
        },
        0,
    )
    each = visual.tokens // visual.text.count(VIDEO)
    assert each == 6 and visual.text.replace(VIDEO, VIDEO * each) == theirs


def test_times_of_a_file_span_its_first_and_last_frame():
    """8 of 80 frames at 10 a second are sampled at 1 a second: the first at 0 s, the last at 7.9 s, told as 8 s."""
    spread = [round(i * 79 / 7) / 10 for i in range(8)]
    exact = [(spread[i] + spread[i + 1]) / 2 for i in range(0, 8, 2)]
    found = _step_times(8, 1.0, 2, whole=True)
    assert found == pytest.approx([4 / 7, 20 / 7, 36 / 7, 52 / 7])
    assert max(abs(a - b) for a, b in zip(found, exact, strict=True)) < 0.1
    assert _step_times(3, 2.0, 2, whole=False) == [0.25, 1.0]


@pytest.mark.parametrize("size", [(64, 96), (61, 190), (33, 40)])
def test_images_equal_transformers_own_processor(size):
    """Qwen3-VL's images go through the processor of Qwen2-VL, with other patches, colours and limits."""
    image = noise(*size, 3)
    theirs = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 4096, "longest_edge": 32 * 32 * 20}, patch_size=16, image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )(images=[image], return_tensors="pt")  # fmt: skip
    ours = Qwen3Vision(image_min_pixels=4096, image_max_pixels=32 * 32 * 20)(Media("image", frames=image))
    assert ours.text == "" and ours.features["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
    torch.testing.assert_close(ours.features["pixel_values"], theirs["pixel_values"], rtol=0, atol=1e-6)


def test_patches_of_a_video_equal_transformers_own():
    """The cutting of frames that need no resizing is plain torch; resizing itself would need torchvision."""
    media = video(5, 2.0, size=(64, 96))
    ours = Qwen3Vision(frames=FrameSettings(factor=32, min_pixels=64 * 96, max_pixels=64 * 96))(media)
    scaled = torch.from_numpy(media.frames).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    patches, *grid = Qwen3VLVideoProcessor.patchify(None, scaled, 16, 2, 2)
    assert ours.features["video_grid_thw"].tolist() == [grid]
    torch.testing.assert_close(ours.features["pixel_values_videos"], patches[0], rtol=0, atol=1e-6)


def test_several_media_are_written_in_order(seeing):
    image = Media("image", frames=noise(64, 64, 3, seed=5))
    prompt = seeing.encoder.prompt(asked(video(4, 2.0), image, video(2, 4.0, seed=1)))
    first = "".join(f"<{t} seconds>{START}[4]{END}" for t in ("0.2", "1.2"))
    body = f"{first}{START}[4]{END}<0.1 seconds>{START}[4]{END}which way?"
    assert written(seeing, prompt) == f"<|im_start|>user\n{body}<|im_end|>\n<|im_start|>assistant\n"
    assert [k for k in prompt.kinds if k] == [2] * 8 + [1] * 4 + [2] * 4
    with pytest.raises(DataError, match="1 of 2 media have no placeholder"):
        seeing.encoder.prompt(Task("t", asked(video(4, 2.0)).prompt, media=(video(4, 2.0), video(4, 2.0, seed=1))))


def test_positions_start_anew_at_every_frame(seeing):
    """A frame of 2 by 2 merged patches takes 2 positions; the text of its time takes one position per token."""
    prompt = seeing.encoder.prompt(asked(video(4, 2.0)))
    found, kinds = position_ids(seeing.model, seeing.encoder.collate([prompt]))[:, 0], prompt.kinds
    expected, at, i = [], 0, 0
    while i < len(kinds):
        if kinds[i] == 0:
            expected.append((at, at, at))
            at, i = at + 1, i + 1
        else:
            expected += [(at, at + row, at + column) for row in (0, 1) for column in (0, 1)]
            at, i = at + 2, i + 4
    assert found.T.tolist() == [list(p) for p in expected]


def test_positions_agree_with_padding_in_scoring_and_in_generation(seeing):
    tasks = [
        asked(video(6, 1.0)),
        asked(text="how many?"),
        asked(Media("image", frames=noise(64, 64, 3)), video(4, 4.0, seed=3), text="what is shown first of the two?"),
    ]
    prompts = [seeing.encoder.prompt(task) for task in tasks]
    before = seeing.encoder.collate(prompts)
    following = next_positions(position_ids(seeing.model, before))
    whole = seeing.encoder.collate(prompts, [[20, 21, 22]] * 3)
    full = position_ids(seeing.model, whole)
    assert torch.equal(full[:, :, -3:], following + torch.arange(3))
    theirs, _ = seeing.model.model.get_rope_index(
        whole["input_ids"], whole["mm_token_type_ids"], whole["image_grid_thw"], whole["video_grid_thw"],
        attention_mask=whole["attention_mask"],
    )  # fmt: skip
    assert torch.equal(full, theirs * whole["attention_mask"])
    for row, prompt in enumerate(prompts):
        alone = position_ids(seeing.model, seeing.encoder.collate([prompt]))[:, 0]
        assert torch.equal(full[:, row, :-3][:, before["attention_mask"][row].bool()], alone)


def test_times_and_frames_reach_the_model(seeing):
    media = [video(4, 2.0), video(4, 1.0), video(4, 2.0, seed=1)]
    inputs = [seeing.encoder.collate([seeing.encoder.prompt(asked(m))]) for m in media]
    with torch.no_grad():
        one, slower, other = (
            seeing.model(**x, position_ids=position_ids(seeing.model, x)).logits[0, -1] for x in inputs
        )
    assert (one - slower).abs().max() > 1e-3 and (one - other).abs().max() > 1e-3


def test_a_saved_model_is_known_by_its_configuration(seeing, tmp_path):
    seeing.model.save_pretrained(tmp_path)
    seeing.encoder.tokenizer.save_pretrained(tmp_path)
    saved = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    loaded = qwen_vl(path=str(tmp_path), dtype="float32", frame_min_pixels=4096, frame_max_pixels=4096)
    media = loaded.encoder.media
    assert type(media) is Qwen3Vision and (media.patch_size, media.frames.factor, media.mean) == (16, 32, (0.5,) * 3)
    ours, theirs = (b.encoder.prompt(asked(video(4, 2.0))) for b in (seeing, loaded))
    assert ours.ids == theirs.ids
    torch.testing.assert_close(ours.features["pixel_values_videos"], theirs.features["pixel_values_videos"])
    assert loaded.encoder.suppress == seeing.encoder.suppress
