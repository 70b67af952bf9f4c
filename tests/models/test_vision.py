"""Media become the model's inputs exactly as transformers' own processors make them, and positions agree everywhere."""

import importlib.util
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")

from rlpost import ledger
from rlpost.errors import DataError, ModelError
from rlpost.kernels.prefix import key
from rlpost.media.sample import FrameSettings
from rlpost.models.encode import Visual
from rlpost.models.positions import next_positions, position_ids
from rlpost.models.qwen_vl import qwen_vl
from rlpost.models.tiny_video import video_tiny
from rlpost.models.vision import CLIP_MEAN, CLIP_STD, QwenVision, hub_media
from rlpost.types import Media, Task


@pytest.fixture(scope="module")
def tiny():
    return video_tiny()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def video(frames: np.ndarray, fps: float = 4.0, change: str = "") -> Media:
    return Media("video", frames=frames, fps=fps, change=change)


def asked(*media: Media, text: str = "which way does the circle move ?") -> Task:
    parts = [{"type": m.kind} for m in media]
    return Task("t", [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}], media=media)


@pytest.mark.parametrize("size", [(56, 56), (61, 190), (300, 170), (33, 40)])
def test_images_equal_transformers_own_processor(size):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = noise(*size, 3)
    theirs = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 20})(
        images=[image], return_tensors="pt"
    )
    ours = QwenVision(image_min_pixels=3136, image_max_pixels=28 * 28 * 20)(Media("image", frames=image))
    assert ours.features["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
    torch.testing.assert_close(ours.features["pixel_values"], theirs["pixel_values"], rtol=0, atol=1e-6)


@pytest.mark.skipif(
    not importlib.util.find_spec("torchvision"), reason="transformers' video processor needs torchvision"
)
def test_videos_equal_transformers_own_processor():
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    frames = noise(7, 84, 112, 3)
    theirs = Qwen2VLVideoProcessor(size={"shortest_edge": 3136, "longest_edge": 84 * 112})(
        videos=[torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)], return_tensors="pt"
    )
    ours = QwenVision(frames=FrameSettings(min_pixels=3136, max_pixels=84 * 112))(video(frames))
    assert ours.features["video_grid_thw"].tolist() == theirs["video_grid_thw"].tolist()
    torch.testing.assert_close(ours.features["pixel_values_videos"], theirs["pixel_values_videos"], rtol=0, atol=1e-5)


def test_videos_equal_a_derivation_patch_by_patch():
    """Each patch is cut out by explicit loops: time step, block row, block column, row in block, column in block."""
    frames = noise(5, 56, 84, 3)
    found = QwenVision(frames=FrameSettings(min_pixels=3136, max_pixels=56 * 84))(video(frames, fps=2.5))
    filled = np.concatenate([frames, frames[-1:]])
    expected = []
    for step in range(3):
        for block_row in range(2):
            for block_column in range(3):
                for row in (2 * block_row, 2 * block_row + 1):
                    for column in (2 * block_column, 2 * block_column + 1):
                        values = []
                        for channel in range(3):
                            for t in (2 * step, 2 * step + 1):
                                patch = filled[t, row * 14 : row * 14 + 14, column * 14 : column * 14 + 14, channel]
                                values.append((patch / 255.0 - CLIP_MEAN[channel]) / CLIP_STD[channel])
                        expected.append(np.stack(values).reshape(-1))
    torch.testing.assert_close(
        found.features["pixel_values_videos"], torch.tensor(np.stack(expected), dtype=torch.float32), rtol=0, atol=1e-5
    )
    assert found.features["video_grid_thw"].tolist() == [[3, 4, 6]]
    assert found.tokens == 3 * 2 * 3
    assert found.features["second_per_grid_ts"].tolist() == pytest.approx([2 / 2.5])


def test_a_change_of_frames_changes_pixels_but_no_count():
    frames = noise(8, 56, 56, 3)
    vision = QwenVision(frames=FrameSettings(min_pixels=3136, max_pixels=3136))
    plain, turned = vision(video(frames)), vision(video(frames, change="reverse:0"))
    again = vision(video(np.ascontiguousarray(frames[::-1])))
    assert isinstance(plain, Visual) and plain.tokens == turned.tokens
    assert torch.equal(turned.features["pixel_values_videos"], again.features["pixel_values_videos"])
    assert not torch.equal(plain.features["pixel_values_videos"], turned.features["pixel_values_videos"])


@pytest.mark.parametrize(
    ("media", "said"),
    [
        (Media("video", frames=noise(4, 56, 56, 3)), "no fps"),
        (Media("video", frames=noise(4, 56, 56), fps=2.0), r"\(F,H,W,3\)"),
        (Media("video", frames=noise(4, 56, 56, 3) / 255.0, fps=2.0), "uint8"),
        (Media("video"), "neither a path nor frames"),
    ],
)
def test_unusable_media_are_refused(media, said):
    with pytest.raises(DataError, match=said):
        QwenVision()(media)


def test_a_factor_that_does_not_fit_the_model_is_refused():
    with pytest.raises(ModelError, match="set factor to 28"):
        QwenVision(frames=FrameSettings(factor=32))


def test_placeholders_are_counted_against_the_grid(tiny):
    first, second = video(noise(8, 56, 56, 3)), video(noise(4, 56, 56, 3, seed=1), fps=2.0)
    prompt = tiny.encoder.prompt(asked(first, second))
    pad = tiny.encoder.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert prompt.ids.count(pad) == int(prompt.features["video_grid_thw"].prod(-1).sum()) // 4 == 16 + 8
    assert [kind for kind in prompt.kinds if kind] == [2] * 24
    assert prompt.features["second_per_grid_ts"].tolist() == [0.5, 1.0]
    with pytest.raises(DataError, match="placeholder"):
        tiny.encoder.prompt(replace(asked(first), media=(first, second)))
    with pytest.raises(DataError, match="placeholder"):
        tiny.encoder.prompt(replace(asked(first, second), media=(first,)))


def test_visual_tokens_are_never_sampled(tiny):
    names = tiny.encoder.tokenizer.convert_ids_to_tokens(tiny.encoder.suppress)
    assert set(names) == {"<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"}


def rows_with_a_long_video(tiny):
    """Row 0: 8 frames over 80 s (positions spread over 120), row 1: 8 frames over 2 s, row 2: text alone."""
    slow, fast = video(noise(8, 56, 56, 3), fps=0.1), video(noise(8, 56, 56, 3, seed=2))
    tasks = [asked(slow), asked(fast, text="what is shown ? A red B green"), asked(text="how many shapes are shown ?")]
    answers = [
        "<think> tl so left </think> <answer> A </answer>",
        "<answer> a red circle </answer>",
        "<answer> 3 </answer>",
    ]
    prompts = [tiny.encoder.prompt(task) for task in tasks]
    return prompts, [tiny.encoder.completion(t, a).tokens for t, a in zip(tasks, answers, strict=True)]


def test_positions_of_a_long_video_are_derived_by_hand(tiny):
    """4 grid steps of 20 s at 4 positions a second: 0, 80, 160, 240; the text goes on after the last of them."""
    prompts, _ = rows_with_a_long_video(tiny)
    found = position_ids(tiny.model, tiny.encoder.collate(prompts[:1]))[:, 0]
    start = prompts[0].kinds.index(2)
    steps = [start + offset for offset in (0, 80, 160, 240) for _ in range(4)]
    assert found[0, start : start + 16].tolist() == steps
    assert found[1, start : start + 16].tolist() == [start, start, start + 1, start + 1] * 4
    assert found[2, start : start + 16].tolist() == [start, start + 1] * 8
    rest = len(prompts[0].ids) - start - 16
    after = list(range(start + 241, start + 241 + rest))
    assert [found[axis, start + 16 :].tolist() for axis in range(3)] == [after] * 3


def test_positions_are_the_same_in_generation_and_in_the_full_forward(tiny):
    prompts, answers = rows_with_a_long_video(tiny)
    before = tiny.encoder.collate(prompts)
    following = next_positions(position_ids(tiny.model, before))
    whole = tiny.encoder.collate(prompts, answers)
    full, width = position_ids(tiny.model, whole), before["input_ids"].shape[1]
    for row, answer in enumerate(answers):
        generated = following[:, row] + torch.arange(len(answer))
        assert torch.equal(full[:, row, width : width + len(answer)], generated), row
    assert (full * (1 - whole["attention_mask"])).eq(0).all()


@torch.no_grad()
def test_logits_token_by_token_equal_those_of_the_full_forward(tiny):
    prompts, answers = rows_with_a_long_video(tiny)
    model, encoder = tiny.model, tiny.encoder
    whole = encoder.collate(prompts, answers)
    full = model(**whole, position_ids=position_ids(model, whole)).logits
    inputs = encoder.collate(prompts)
    positions = position_ids(model, inputs)
    out = model(**inputs, position_ids=positions, use_cache=True)
    following, attention, width = next_positions(positions), inputs["attention_mask"], inputs["input_ids"].shape[1]
    for t in range(min(map(len, answers))):
        torch.testing.assert_close(out.logits[:, -1], full[:, width + t - 1], rtol=0, atol=2e-5)
        attention = torch.cat([attention, torch.ones_like(attention[:, :1])], 1)
        out = model(
            input_ids=whole["input_ids"][:, width + t : width + t + 1],
            attention_mask=attention,
            position_ids=following + t,
            past_key_values=out.past_key_values,
            use_cache=True,
        )


def test_the_order_of_frames_and_the_seconds_reach_the_model(tiny):
    """Guards against a silently one-dimensional position: slower sampling alone must change the logits."""
    frames = noise(8, 56, 56, 3)
    inputs = [tiny.encoder.collate([tiny.encoder.prompt(asked(video(frames, fps=fps)))]) for fps in (4.0, 1.0)]
    with torch.no_grad():
        first, second = (tiny.model(**x, position_ids=position_ids(tiny.model, x)).logits[:, -1] for x in inputs)
    assert (first - second).abs().max() > 1e-4


def test_a_saved_model_tells_how_its_media_are_encoded(tiny, tmp_path):
    """The loader reads patches from the configuration, pixels and colours from the saved preprocessor."""
    tiny.model.save_pretrained(tmp_path)
    tiny.encoder.tokenizer.save_pretrained(tmp_path)
    saved = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "size": {"shortest_edge": 784}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved | {"max_pixels": 7840}))
    loaded = qwen_vl(path=str(tmp_path), dtype="float32", fps=3.0, frame_min_pixels=3136, frame_max_pixels=3136)
    media = loaded.encoder.media
    assert (media.patch_size, media.merge, media.temporal) == (14, 2, 2)
    assert media.mean == (0.1, 0.2, 0.3) and media.std == (0.5, 0.6, 0.7)
    assert media.frames == FrameSettings(fps=3.0, min_pixels=3136, max_pixels=3136)
    assert media.image_max_pixels == 200704, "the knob, not the saved number"
    frames = noise(4, 56, 56, 3)
    prompt = loaded.encoder.prompt(asked(video(frames)))
    assert prompt.ids == tiny.encoder.prompt(asked(video(frames))).ids
    assert loaded.encoder.suppress == tiny.encoder.suppress


def test_equal_media_are_encoded_once(tiny, monkeypatch):
    """The same tensors for the same content, so that equal prompts are known by them; other content has its own."""
    vision = QwenVision(frames=FrameSettings(min_pixels=3136, max_pixels=3136))
    cut = []
    patches = QwenVision._patches
    monkeypatch.setattr(QwenVision, "_patches", lambda self, frames: cut.append(1) or patches(self, frames))
    frames = noise(8, 56, 56, 3)
    first, again = vision(video(frames)), vision(video(frames.copy()))
    assert first is again and cut == [1]
    others = [
        video(frames, fps=2.0),
        video(frames, change="reverse:0"),
        video(frames[:4]),
        video(noise(8, 56, 56, 3, seed=1)),
    ]
    assert len({id(v) for v in map(vision, others)} | {id(first)}) == 5 and len(cut) == 5
    assert vision(video(frames, change="reverse:0")) is vision(video(frames, change="reverse:0"))
    changed = frames.copy()
    changed[3, 20, 20, 0] ^= 1
    assert vision(video(changed)) is not first
    assert QwenVision(patches_mb=0.0)(video(frames)) is not QwenVision(patches_mb=0.0)(video(frames))


def test_a_file_that_was_written_anew_is_encoded_anew(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "x.png"
    vision = QwenVision()
    image.fromarray(noise(56, 56, 3)).save(path)
    os.utime(path, ns=(1, 1))
    first = vision(Media("image", path=str(path)))
    assert vision(Media("image", path=str(path))) is first
    image.fromarray(noise(56, 56, 3, seed=1)).save(path)
    os.utime(path, ns=(2, 2))
    assert not torch.equal(
        vision(Media("image", path=str(path))).features["pixel_values"], first.features["pixel_values"]
    )


def test_equal_prompts_are_recognised_with_one_medium_and_with_two(tiny):
    frames, other = noise(8, 56, 56, 3), noise(4, 56, 56, 3, seed=1)
    for media in ((video(frames),), (video(frames), video(other))):
        one, two = (tiny.encoder.prompt(asked(*media)) for _ in range(2))
        assert key(one) == key(two) and one is not two
    assert key(tiny.encoder.prompt(asked(video(frames), video(other)))) != key(
        tiny.encoder.prompt(asked(video(frames), video(noise(4, 56, 56, 3, seed=2))))
    )


def test_media_of_other_architectures_are_refused(tiny):
    class Other:
        config = SimpleNamespace(model_type="llava", vision_config=SimpleNamespace(patch_size=14))

    with pytest.raises(ModelError, match="llava"):
        hub_media(Other(), tiny.encoder.tokenizer, "nowhere", None)


def test_tokens_that_the_limits_cost_are_counted_once_per_medium(tiny, tmp_path):
    """24 frames of 112 by 112 at 8 per second, shown as 8 frames of 56 by 56.

    fps=4 asks for 12 frames, 6 grid steps of 4 * 4 tokens of 28 pixels: 96 tokens. 4 steps of 2 * 2 are shown: 16. The
    limit of 8 frames costs 2 steps of 16, that of 56 * 56 pixels 12 tokens in each of 4 steps.
    """
    pytest.importorskip("av")
    from rlpost.media.write import write_mp4

    write_mp4(tmp_path / "long.mp4", noise(24, 112, 112, 3), 8)
    write_mp4(tmp_path / "short.mp4", noise(8, 56, 56, 3), 4)
    vision = QwenVision(
        frames=FrameSettings(fps=4.0, max_frames=8, min_pixels=56 * 56, max_pixels=56 * 56),
        image_min_pixels=56 * 56,
        image_max_pixels=84 * 84,
    )
    encoder = replace(tiny.encoder, media=vision)
    large, fits = Media("image", frames=noise(112, 140, 3)), Media("image", frames=noise(84, 84, 3))
    long, short = (Media("video", path=str(tmp_path / name)) for name in ("long.mp4", "short.mp4"))
    ledger.reset()
    for _ in range(2):
        prompt = encoder.prompt(asked(long, short, fits))
    assert sum(kind == 2 for kind in prompt.kinds) == 16 + 16
    encoder.prompt(asked(replace(long, change="shuffle:1")))  # a contrast shows the same medium
    encoder.prompt(asked(large))  # 4 by 5 tokens, of which 84 * 84 pixels leave 2 by 3
    found = {row["cause"]: (row["kind"], row["count"], row["lost"], row["unit"]) for row in ledger.current().rows()}
    assert found == {
        "a video longer than max_frames=8": ("shrink", 1, 32, "visual tokens"),
        "a video larger than max_pixels=3136": ("shrink", 1, 48, "visual tokens"),
        "an image larger than max_pixels=7056": ("shrink", 1, 20 - 6, "visual tokens"),
    }
    vision.decoder.close()
    ledger.reset()
